// Drawing: Gaussians by Spark and three.js, and a camera that orbits the middle of the head.

const FAINTEST_LOGIT = -30; // of Gaussians that another avatar needs and this one has not

// Spark's module, from the gzipped bytes that this package ships: without a server there is no other way to import it.
export async function loadSpark(bytes) {
  const url = URL.createObjectURL(new Blob([await gunzip(bytes)], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

export class SplatView {
  // capacity: the most Gaussians of any avatar. drawn: called after each picture.
  constructor(spark, canvas, width, height, capacity, drawn) {
    Object.assign(this, { spark, drawn, capacity, waiting: false });
    this.renderer = new spark.WebGLRenderer({ canvas, antialias: false });
    this.renderer.setSize(width, height, false);
    this.scene = new spark.Scene();
    this.scene.background = new spark.Color(0xffffff); // avatars are trained on white
    this.camera = new spark.PerspectiveCamera();
    this.camera.matrixAutoUpdate = false;
    // The blur of antialiased splatting, and its order of Gaussians: by depth. Sorting ends later, hence onDirty.
    this.scene.add(new spark.SparkRenderer({ renderer: this.renderer, preBlurAmount: 0, blurAmount: 0.3, sortRadial: false,
      maxStdDev: Math.sqrt(11), onDirty: () => this.draw() }));
    this.splats = new spark.PackedSplats({ maxSplats: capacity });
    this.parts = [new spark.Vector3(), new spark.Vector3(), new spark.Quaternion(), new spark.Color()];
  }

  // values: channel after channel, as AvatarModel.blend returns them.
  setGaussians(values, n) {
    const [mean, scale, quaternion, color] = this.parts, at = (channel, i) => values[channel * n + i];
    for (let i = 0; i < this.capacity; i++) {
      const j = Math.min(i, n - 1);
      mean.set(at(0, j), at(1, j), at(2, j));
      quaternion.set(at(4, j), at(5, j), at(6, j), at(3, j)).normalize();
      scale.set(Math.exp(at(7, j)), Math.exp(at(8, j)), Math.exp(at(9, j)));
      [color.r, color.g, color.b] = [sigmoid(at(10, j)), sigmoid(at(11, j)), sigmoid(at(12, j))];
      const opacity = sigmoid(i < n ? at(13, j) : FAINTEST_LOGIT);
      if (this.mesh) this.splats.setSplat(i, mean, scale, quaternion, opacity, color);
      else this.splats.pushSplat(mean, scale, quaternion, opacity, color);
    }
    if (this.mesh) {
      this.splats.needsUpdate = true; // a new mesh would not be shown; the same one with other values is
      this.mesh.updateVersion();
    } else {
      this.mesh = new this.spark.SplatMesh({ packedSplats: this.splats });
      this.mesh.initialized.then(() => { this.scene.add(this.mesh); this.draw(); });
    }
    this.draw();
  }

  // camera: view [4][4] from normalised head space, OpenCV axes, and K, of a picture of width x height. yaw and pitch in
  // radians turn about the middle of the head, the origin; distance multiplies how far away it is.
  setCamera({ view, K, width, height }, yaw, pitch, distance) {
    const { Matrix4 } = this.spark, near = 0.01, far = 100;
    const front = new Matrix4().set(...view.flat()).setPosition(0, 0, 0);
    const away = new Matrix4().makeTranslation(view[0][3] * distance, view[1][3] * distance, view[2][3] * distance);
    const turned = away.multiply(new Matrix4().makeRotationX(pitch)).multiply(new Matrix4().makeRotationY(yaw)).multiply(front);
    this.camera.matrix.copy(new Matrix4().makeScale(1, -1, -1).multiply(turned)).invert(); // three.js: y up, looks along -z
    this.camera.matrix.decompose(this.camera.position, this.camera.quaternion, this.camera.scale);
    this.camera.projectionMatrix.set(
      2 * K[0][0] / width, 0, 1 - 2 * K[0][2] / width, 0,
      0, 2 * K[1][1] / height, 2 * K[1][2] / height - 1, 0,
      0, 0, -(far + near) / (far - near), -2 * far * near / (far - near),
      0, 0, -1, 0);
    this.camera.projectionMatrixInverse.copy(this.camera.projectionMatrix).invert();
    this.camera.updateMatrixWorld(true);
    this.draw();
  }

  // At most one picture a screen refresh, and none while nothing changes.
  draw() {
    if (this.waiting || this.closed) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.closed) return;
      this.renderer.render(this.scene, this.camera);
      this.drawn();
    });
  }

  close() {
    this.closed = true;
    this.renderer.dispose();
  }
}
