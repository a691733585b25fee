export function render({ model, el }) {
  const group = document.createElement("div")
  group.setAttribute("role", "group")
  group.setAttribute("aria-label", "Cases")
  const mark = () => {
    for (const card of group.children) card.setAttribute("aria-pressed", String(card.value === model.chosen))
  }
  const draw = () => {
    const focused = [...group.children].indexOf(el.getRootNode().activeElement)
    group.replaceChildren(...model.cards.map(({ name, html }) => {
      const card = document.createElement("button")
      card.type = "button"
      card.value = name
      card.innerHTML = html  // made and escaped by Python
      card.addEventListener("click", () => { model.chosen = name })
      return card
    }))
    mark()
    group.children[focused]?.focus()
  }
  model.on("cards", draw)
  model.on("chosen", mark)
  draw()
  el.append(group)
}
