"""RAF through tf.data into a Keras model, where TensorFlow is installed: `make test-matrix` has a cell for
it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from raf_lite.bank import ExpressionBank
from raf_lite.retrieval import RetrievalAugmentation

pytestmark = pytest.mark.may_skip("TensorFlow is in one cell of the matrix")


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def test_a_keras_model_trains_on_what_tf_data_has_replaced(tf):
    rng = np.random.default_rng(0)
    bank_rows = rng.normal(size=(300, 8)).astype(np.float32)
    bank = ExpressionBank.from_arrays(bank_rows, np.repeat(np.arange(10), 30).astype(str))
    own = rng.normal(size=(64, 8)).astype(np.float32)
    frames = (own @ rng.normal(size=(8, 12))).astype(np.float32)
    raf, swaps, given = RetrievalAugmentation(bank, p=0.5).fit(own), np.random.default_rng(1), []

    def load(index):
        replaced, info = raf.augment(own[index], swaps, index=index)
        given.append((index.copy(), replaced.copy(), info["replaced"].copy()))
        return replaced, frames[index]

    def tensors(index):
        x, y = tf.numpy_function(load, [index], [tf.float32, tf.float32])
        return tf.ensure_shape(x, [16, 8]), tf.ensure_shape(y, [16, 12])

    batches = tf.data.Dataset.range(64).batch(16, drop_remainder=True).repeat(10).map(tensors)
    model = tf.keras.Sequential([tf.keras.layers.Dense(12)])
    model.compile(tf.keras.optimizers.SGD(0.05), loss="mse")
    losses = model.fit(batches, verbose=0).history["loss"] + model.fit(batches, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    index, replaced, where = (np.concatenate(part) for part in zip(*given, strict=True))
    assert len(index) >= 640 and 0.4 < where.mean() < 0.6
    # A row that was replaced is the bank's nearest to the row it stands for; any other is the row itself, bit
    # for bit.
    nearest = bank_rows[((own[:, None] - bank_rows[None]) ** 2).sum(-1).argmin(1)]
    assert np.array_equal(replaced[where], nearest[index[where]])
    assert np.array_equal(replaced[~where], own[index[~where]])


@pytest.mark.parametrize("options", [(), ("--raf",)])
def test_the_example_gives_the_same_numbers_with_tf_data_and_without(tf, tmp_path, options):
    script = ROOT / "examples" / "numpy_pipeline.py"
    hidden = (
        "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:]; "
        "sys.path.insert(0, sys.argv[1]); del sys.argv[1]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    through = subprocess.run(
        [sys.executable, str(script), "--steps=60", *options], capture_output=True, text=True, check=True
    )
    without = subprocess.run(
        [sys.executable, "-c", hidden, str(script), str(script.parent), "--steps=60", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    assert through.stdout == without.stdout and through.stdout.count("\n") == 4
