// What is asked for is made on the server, comes as a message, and goes to the browser's downloads: nothing is kept.
function download({name, mime, content}) {
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0))
  const link = document.createElement("a")
  link.href = URL.createObjectURL(new Blob([bytes], {type: mime}))
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

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
  const group = document.createElement("div")
  group.setAttribute("role", "group")
  group.setAttribute("aria-label", `Take away: ${model.what}`)
  const said = document.createElement("span")
  said.setAttribute("role", "status")
  const buttons = {}
  const button = (label, title, press) => {
    const made = document.createElement("button")
    made.type = "button"
    made.textContent = label
    made.title = title
    made.addEventListener("click", press)
    group.append(made)
    return made
  }
  for (const {format, label, title} of model.formats)
    buttons[format] = button(label, title, () => {
      said.textContent = ""
      buttons[format].setAttribute("aria-busy", "true")
      buttons[format].disabled = true
      model.send_msg(format)
    })
  if (model.address) button("Link", "Copy the address of this view", async () => {
    try {
      await copy(window.location.href)
      said.textContent = "Copied"
    } catch {
      said.textContent = "The browser does not allow it: copy the address line"
    }
    setTimeout(() => { said.textContent = "" }, 3000)
  })
  group.append(said)
  model.on("msg:custom", message => {
    const pressed = buttons[message.format]
    if (pressed === undefined) return
    pressed.removeAttribute("aria-busy")
    pressed.disabled = false
    pressed.focus()
    if (message.problem) said.textContent = message.problem
    else download(message)
  })
  return group
}
