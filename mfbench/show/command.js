// A command, and a button that copies it. It is set as text, never as HTML.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const field = document.createElement("textarea") // an address without https has no clipboard but this one
  field.value = text
  document.body.append(field)
  field.select()
  document.execCommand("copy")
  field.remove()
}

export function render({model}) {
  const place = document.createElement("div")
  const code = document.createElement("pre")
  const button = document.createElement("button")
  button.type = "button"
  button.addEventListener("click", async () => {
    try {
      await copy(model.text)
      button.textContent = "Copied"
    } catch {
      button.textContent = "Select it, and copy it by hand"
    }
    setTimeout(() => { button.textContent = "Copy" }, 3000)
  })
  const show = () => {
    code.textContent = model.text || model.why
    button.textContent = "Copy"
    button.hidden = !model.text
  }
  model.on("text", show)
  model.on("why", show)
  show()
  place.append(code, button)
  return place
}
