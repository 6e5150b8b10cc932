// The player as a notebook's widget (anywidget): the same code; all bytes come from the kernel, once, and none later.

export default {
  async render({ model, el }) {
    const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const decoded = (items) => items.map((item) => ({ ...item, data: bytes(item.data) }));
    const root = element("div", { class: "raf-player" });
    // Keys pressed in here are the player's: notebooks take arrows for another cell, and 0 0 for a restart of the kernel.
    root.addEventListener("keydown", (event) => event.stopPropagation());
    const waiting = element("p", { role: "status" }, "The avatars are being unpacked.");
    root.append(waiting);
    el.append(root);
    try {
      const { avatars, sequences, fps } = model.get("content");
      const player = await mountPlayer(root, { sparkBytes: bytes(model.get("spark")), avatars: decoded(avatars),
        sequences: decoded(sequences), fps });
      waiting.remove();
      return () => player.close();
    } catch (error) {
      root.replaceChildren(element("p", { role: "alert" }, `The avatar cannot be shown: ${error.message}. A browser of 2023 or ` +
        "later with WebGL 2 is needed; raf_lite.export.write_player writes an HTML page that you can open in another one."));
      throw error;
    }
  },
};
