// The avatar in the browser: unpack what raf_lite.export.browser packed, run the network, blend the components.
// The files model.js, view.js and player.js are joined into one module; nothing here touches the page.

const CHANNELS = 14; // of a Gaussian: mean 3, quaternion wxyz 4, log scale 3, colour logit 3, opacity logit 1
const MOVING = 13; // all but the opacity

export async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export class AvatarModel {
  // header, data: the two parts of a PackedAvatar.
  static async unpack(header, data) {
    const buffer = await gunzip(data);
    const types = { u2: Uint16Array, i1: Int8Array, f4: Float32Array };
    const arrays = {};
    for (const [name, { type, offset, shape }] of Object.entries(header.arrays)) {
      arrays[name] = new types[type](buffer, offset, shape.reduce((a, b) => a * b, 1));
    }
    return new AvatarModel(header, arrays);
  }

  constructor(header, arrays) {
    Object.assign(this, { header, arrays, count: header.gaussians, componentCount: header.arrays.components.shape[0] });
    const n = this.count;
    this.canonical = new Float32Array(CHANNELS * n); // channel after channel
    for (let channel = 0; channel < CHANNELS; channel++) {
      for (let i = channel * n; i < (channel + 1) * n; i++) {
        this.canonical[i] = header.canonicalLow[channel] + header.canonicalStep[channel] * arrays.canonical[i];
      }
    }
    this.blended = new Float32Array(CHANNELS * n);
  }

  // What the field is asked instead of a descriptor far from training's: see raf_lite.avatar.reach.
  within(descriptor) {
    const { width, gap } = this.header.reach, rows = this.arrays.rows, size = descriptor.length;
    const apart = new Float64Array(rows.length / size), near = new Float64Array(size);
    rows.forEach((value, i) => (apart[Math.floor(i / size)] += (descriptor[i % size] - value) ** 2));
    const nearest = apart.reduce((a, b) => Math.min(a, b)), weights = apart.map((d) => Math.exp((nearest - d) / (2 * width * width)));
    const all = weights.reduce((a, b) => a + b);
    rows.forEach((value, i) => (near[i % size] += (weights[Math.floor(i / size)] / all) * value));
    const length = Math.hypot(...near.map((value, i) => descriptor[i] - value));
    const kept = length <= gap ? 1 : gap / length;
    return near.map((value, i) => value + kept * (descriptor[i] - value));
  }

  // Coefficients of a descriptor: standardise it (and what the field is asked), then linear layers with a ReLU between two.
  coefficients(descriptor) {
    const { mean, scale, layers, reach } = this.header;
    const read = reach ? [...descriptor, ...this.within(descriptor)] : descriptor;
    let values = Float32Array.from(read, (value, i) => (value - mean[i % mean.length]) / scale);
    for (let layer = 0; layer < layers; layer++) {
      const weight = this.arrays[`weight${layer}`], bias = this.arrays[`bias${layer}`], inputs = values.length;
      values = Float32Array.from(bias, (start, row) => {
        let sum = start;
        for (let i = 0; i < inputs; i++) sum += weight[row * inputs + i] * values[i];
        return layer < layers - 1 ? Math.max(0, sum) : sum;
      });
    }
    return values;
  }

  // Canonical Gaussians plus coefficients times components, channel after channel.
  blend(coefficients) {
    const n = this.count, out = this.blended, components = this.arrays.components, step = this.header.componentStep;
    out.set(this.canonical);
    for (let k = 0; k < this.componentCount; k++) {
      for (let channel = 0; channel < MOVING; channel++) {
        const factor = coefficients[k] * step[channel], from = (k * MOVING + channel) * n, to = channel * n;
        for (let i = 0; i < n; i++) out[to + i] += factor * components[from + i];
      }
    }
    return out;
  }
}
