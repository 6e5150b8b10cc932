"""RAF in an input pipeline of NumPy or of tf.data: the descriptors are replaced where a batch is put
together.

    python examples/numpy_pipeline.py          # as it was
    python examples/numpy_pipeline.py --raf    # with the three lines that are marked RAF

Where TensorFlow is installed the batches go through tf.data, else through a plain generator: the same batches
either way."""

import argparse

import numpy as np
from generated import Log, people

from raf_lite.retrieval import RetrievalAugmentation  # RAF

BATCH = 16

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--raf", action="store_true", help="replace some descriptors by neighbours from the bank")
parser.add_argument("--steps", type=int, default=400)
args = parser.parse_args()

data = people(52)
draws, swaps = np.random.default_rng(0), np.random.default_rng(1)

raf = RetrievalAugmentation(data.bank, p=0.2, k=16, key="centred").fit(data.descriptors)  # RAF


def load(index):  # [B] -> [B], [B, 52], [B, 60, 3]
    """One batch, in NumPy."""
    descriptors = data.descriptors[index]
    descriptors = raf.augment(descriptors, swaps, index=index)[0] if args.raf else descriptors  # RAF
    return index, descriptors, data.frames[index]


def pipeline(steps):
    """Batches, from tf.data where it is there."""
    indices = (draws.integers(len(data.descriptors), size=BATCH) for _ in range(steps))
    try:
        import tensorflow as tf
    except ImportError:
        return map(load, indices)
    dataset = tf.data.Dataset.from_generator(
        lambda: indices, output_signature=tf.TensorSpec([BATCH], tf.int64)
    )
    # One batch after another: a generator of random numbers is not for several threads at once.
    batches = dataset.map(lambda index: tf.numpy_function(load, [index], [tf.int64, tf.float32, tf.float32]))
    return batches.prefetch(2).as_numpy_iterator()


# The model is a linear one, trained by gradient descent: any other takes the same batches.
weights = np.zeros((data.descriptors.shape[1], data.neutral.size))
log = Log()
for index, descriptors, frames in pipeline(args.steps):
    error = descriptors @ weights - (frames - data.neutral).reshape(BATCH, -1)
    weights -= 0.01 / BATCH * descriptors.T @ error
    log.step(descriptors, data.descriptors[index], frames, (error**2).mean())

log.finish(
    data.neutral + (data.driver_descriptors @ weights).reshape(-1, *data.neutral.shape), data.driver_frames
)
