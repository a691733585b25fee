export function render({ model, el }) {
  const group = document.createElement("div")
  group.setAttribute("role", "group")
  group.setAttribute("aria-label", "Arms: show or hide")
  const toggle = name => {
    const hidden = model.hidden.includes(name) ? model.hidden.filter(one => one !== name) : [...model.hidden, name]
    if (hidden.length < model.entries.length) model.hidden = hidden
  }
  const draw = () => {
    // The button that has the focus keeps it.
    const focused = [...group.children].indexOf(el.getRootNode().activeElement)
    group.replaceChildren(...model.entries.map(({ name, label, note }) => {
      const button = document.createElement("button")
      button.type = "button"
      button.innerHTML = label  // made and escaped by Python
      button.title = note
      button.setAttribute("aria-pressed", String(!model.hidden.includes(name)))
      button.addEventListener("click", () => toggle(name))
      return button
    }))
    const key = document.createElement("span")
    key.innerHTML = model.key
    if (model.key) group.append(key)
    group.children[focused]?.focus()
  }
  model.on(["entries", "hidden", "key"], draw)
  draw()
  el.append(group)
}
