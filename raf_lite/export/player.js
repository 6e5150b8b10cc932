// The player: a canvas, sliders, a switch between avatars, and a sequence to play. Every part can be reached by keyboard.

const DEGREE = Math.PI / 180;
const HELP = "Drag, or press the arrow keys, to look from another side; plus and minus, or the wheel, to come closer or go " +
  "away; 0 to look from the front again.";

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const ANYWHERE = { yaw: [-Infinity, Infinity], pitch: [-Infinity, Infinity] };

// Which side the head is seen from, in words; left and right are the head's own.
function sideInWords(yaw, pitch) {
  const part = (angle, positive, negative) => {
    const degrees = Math.round(angle / DEGREE);
    return degrees ? [`${Math.abs(degrees)} degrees from ${degrees > 0 ? positive : negative}`] : [];
  };
  const parts = [...part(yaw, "its left", "its right"), ...part(pitch, "above", "below")];
  return parts.length ? parts.join(", ") : "from the front";
}

class Player {
  // avatars: [{name, model}]. sequences: [{name, frames, values}], values [frames * D]. ids must differ within a document.
  constructor(root, spark, avatars, sequences, fps) {
    Object.assign(this, { root, avatars, sequences, fps, current: avatars[0], playing: false, frame: 0,
      yaw: 0, pitch: 0, distance: 1, id: `raf${Math.random().toString(36).slice(2)}` });
    this.descriptor = Float32Array.from(this.current.model.header.start);
    for (const avatar of avatars) avatar.moved = new Float32Array(avatar.model.componentCount); // by the component sliders
    const { width, height } = this.current.model.header.camera;
    this.canvas = element("canvas", { width, height, tabindex: 0, role: "img", "aria-describedby": `${this.id}-help` });
    this.status = element("p", { class: "raf-status", role: "status", "aria-live": "polite" });
    this.trained = element("p", { class: "raf-help raf-views" });
    this.controls = element("div", { class: "raf-controls" });
    root.append(element("div", { class: "raf-picture" }, this.canvas, this.status,
      element("p", { id: `${this.id}-help`, class: "raf-help" }, HELP), this.trained), this.controls);
    this.buildSwitch();
    this.buildSequences();
    // Sliders with a direction add it to the descriptor, whatever is shown; the others set one of its dimensions.
    this.amounts = {};
    this.dimensions = this.fieldset(this.current.model.header.dimensionSliders.some((slider) => slider.direction)
      ? "Expression: added to what is shown" : "Expression: the dimensions of the descriptor that move the avatar most");
    this.components = this.fieldset("Strongest components of the learned basis, with their share of the movement");
    const reset = element("button", { type: "button" }, "Reset expression");
    reset.addEventListener("click", () => this.reset());
    this.controls.append(reset);
    this.listen();
    this.canvas.dataset.frames = 0;
    this.view = new SplatView(spark, this.canvas, width, height, Math.max(...avatars.map((a) => a.model.count)),
      () => { this.canvas.dataset.frames++; });
    this.choose(this.current);
  }

  buildSwitch() {
    const set = element("fieldset", { class: "raf-switch" }, element("legend", {}, "Avatar"));
    this.avatars.forEach((avatar, i) => {
      const input = element("input", { type: "radio", name: `${this.id}-avatar`, value: i });
      input.checked = avatar === this.current;
      input.addEventListener("change", () => this.choose(avatar));
      set.append(element("label", {}, input, ` ${avatar.name}`));
    });
    this.controls.append(set);
  }

  buildSequences() {
    if (!this.sequences.length) return;
    this.select = element("select", {}, ...this.sequences.map((s, i) => element("option", { value: i }, s.name)));
    this.button = element("button", { type: "button", "aria-pressed": "false" }, "Play");
    this.position = element("input", { type: "range", min: 0, step: 1, value: 0 });
    this.number = element("output", {}, "0");
    this.controls.append(element("fieldset", {}, element("legend", {}, "Play a sequence"),
      element("label", {}, "sequence ", this.select), " ", this.button,
      element("label", {}, "frame ", this.position, this.number)));
    const chosen = () => this.sequences[this.select.value];
    const rewind = () => { this.position.max = chosen().frames - 1; this.position.value = 0; };
    rewind();
    this.select.addEventListener("change", () => { rewind(); this.show(0); });
    this.position.addEventListener("input", () => { this.play(false); this.show(Number(this.position.value)); });
    this.button.addEventListener("click", () => this.play(!this.playing));
  }

  fieldset(legend) {
    const set = element("fieldset", {}, element("legend", {}, legend));
    this.controls.append(set);
    return set;
  }

  // One labelled slider in a fieldset; changed(value) is called while it moves.
  slider(set, { name, low, high }, value, changed) {
    const output = element("output", {}, value.toFixed(2));
    const input = element("input", { type: "range", min: low, max: high, step: (high - low) / 200, "data-name": name });
    input.value = value;
    input.addEventListener("input", () => {
      output.textContent = Number(input.value).toFixed(2);
      changed(Number(input.value));
    });
    set.append(element("label", {}, `${name} `, input, output));
    return { input, output };
  }

  listen() {
    const turn = (yaw, pitch) => {
      this.yaw += yaw;
      this.pitch += pitch;
      this.look();
    };
    const zoom = (factor) => { this.distance = Math.min(3, Math.max(0.4, this.distance * factor)); this.look(); };
    const front = () => { this.yaw = this.pitch = 0; this.distance = 1; this.look(); };
    const step = 5 * DEGREE;
    const keys = { ArrowLeft: () => turn(step, 0), ArrowRight: () => turn(-step, 0), ArrowUp: () => turn(0, step),
      ArrowDown: () => turn(0, -step), "+": () => zoom(0.9), "=": () => zoom(0.9), "-": () => zoom(1 / 0.9), 0: front };
    this.canvas.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    this.canvas.addEventListener("pointerdown", (event) => this.canvas.setPointerCapture(event.pointerId));
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.canvas.hasPointerCapture(event.pointerId)) turn(-event.movementX * 0.4 * DEGREE, event.movementY * 0.4 * DEGREE);
    });
    this.canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(event.deltaY * 1e-3)); },
      { passive: false });
  }

  choose(avatar) {
    this.current = avatar;
    for (const set of [this.dimensions, this.components]) set.querySelectorAll("label").forEach((label) => label.remove());
    const { dimensionSliders, componentSliders } = avatar.model.header;
    this.dimensionInputs = dimensionSliders.filter((slider) => !slider.direction).map((slider) => [slider.index,
      this.slider(this.dimensions, slider, this.descriptor[slider.index],
        (value) => { this.play(false); this.descriptor[slider.index] = value; this.update(); })]);
    for (const slider of dimensionSliders.filter((slider) => slider.direction)) {
      this.slider(this.dimensions, slider, this.amount(slider),
        (value) => { this.amounts[slider.name] = value; this.update(); });
    }
    for (const slider of componentSliders) {
      const named = { ...slider, name: `${slider.name}, ${(100 * slider.share).toFixed(1)}\u00a0%` };
      this.slider(this.components, named, avatar.moved[slider.index] / slider.unit,
        (value) => { avatar.moved[slider.index] = value * slider.unit; this.update(); });
    }
    const { views } = avatar.model.header;
    this.trained.textContent = views ? `Trained on views from ${views.words}; it turns ` +
      `${Math.round(views.beyond / DEGREE)} degrees beyond at most.` : "";
    this.update();
    this.look();
  }

  // Where a slider of the expression stands.
  amount({ index, name, direction }) {
    return direction ? this.amounts[name] ?? 0 : this.descriptor[index];
  }

  // Gaussians of the present descriptor, expression and component sliders, channel after channel.
  gaussians() {
    const { model, moved } = this.current, descriptor = this.descriptor.slice();
    for (const slider of model.header.dimensionSliders) {
      slider.direction?.forEach((step, i) => { descriptor[i] += this.amount(slider) * step; });
    }
    return model.blend(model.coefficients(descriptor).map((c, k) => c + moved[k]));
  }

  update() {
    this.view.setGaussians(this.gaussians(), this.current.model.count);
    this.describe();
  }

  // Where training saw the head from, and a little beyond: other sides are guesses.
  look() {
    const { yaw, pitch } = this.current.model.header.views ?? ANYWHERE;
    const kept = (angle, [low, high], most) => Math.min(high, most, Math.max(low, -most, angle));
    const wanted = [this.yaw, this.pitch];
    this.yaw = kept(this.yaw, yaw, Infinity);
    this.pitch = kept(this.pitch, pitch, 80 * DEGREE);
    this.stopped = this.yaw !== wanted[0] || this.pitch !== wanted[1];
    this.view.setCamera(this.current.model.header.camera, this.yaw, this.pitch, this.distance);
    this.describe();
  }

  reset() {
    this.play(false);
    this.descriptor.set(this.current.model.header.start);
    this.amounts = {};
    for (const avatar of this.avatars) avatar.moved.fill(0);
    this.choose(this.current);
  }

  // Show frame t of the chosen sequence.
  show(t) {
    const { values } = this.sequences[this.select.value], dim = this.descriptor.length;
    this.frame = t;
    this.descriptor.set(values.subarray(t * dim, (t + 1) * dim));
    this.position.value = t;
    this.number.textContent = t;
    for (const [index, { input, output }] of this.dimensionInputs) {
      input.value = this.descriptor[index];
      output.textContent = this.descriptor[index].toFixed(2);
    }
    this.update();
  }

  play(on) {
    if (!this.button || on === this.playing) return;
    this.playing = on;
    this.button.textContent = on ? "Pause" : "Play";
    this.button.setAttribute("aria-pressed", on);
    this.describe();
    if (!on) return;
    const { frames } = this.sequences[this.select.value], first = Number(this.position.value), begun = performance.now();
    let last = -1;
    const tick = (now) => {
      if (!this.playing || this.view.closed) return;
      const t = (first + Math.max(0, Math.floor((now - begun) / 1000 * this.fps))) % frames;
      if (t !== last) this.show(last = t);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  // The picture in words: at once as the canvas's alternative, after a pause as the spoken status.
  describe() {
    const strongest = this.current.model.header.dimensionSliders
      .map((slider) => `${slider.name} ${this.amount(slider).toFixed(2)}`).join(", ");
    const side = sideInWords(this.yaw, this.pitch);
    const playing = this.playing ? `Playing ${this.sequences[this.select.value].name}. ` : "";
    this.canvas.setAttribute("aria-label", `A head of ${this.current.model.count} Gaussian splats, avatar ` +
      `${this.current.name}, seen ${side}. ${strongest}.`);
    clearTimeout(this.saying);
    this.saying = setTimeout(() => { this.status.textContent = `${playing}Avatar ${this.current.name}, seen ${side}` +
      `${this.stopped ? "; it turns no farther" : ""}.`; }, 300);
  }

  close() {
    this.play(false);
    clearTimeout(this.saying);
    this.view.close();
    this.root.replaceChildren();
  }
}

// Build a player inside `root`. sparkBytes: spark.js.gz. avatars: [{name, header, data}], the parts of a PackedAvatar.
// sequences: [{name, frames, data}], data the gzipped float32 descriptors [frames, D]. Returns the player; `close` ends it.
export async function mountPlayer(root, { sparkBytes, avatars, sequences, fps }) {
  const spark = await loadSpark(sparkBytes);
  const models = await Promise.all(avatars.map(async ({ name, header, data }) =>
    ({ name, model: await AvatarModel.unpack(header, data) })));
  const films = await Promise.all(sequences.map(async ({ name, frames, data }) =>
    ({ name, frames, values: new Float32Array(await gunzip(data)) })));
  return new Player(root, spark, models, films, fps);
}
