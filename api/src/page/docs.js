// Shows the OpenAPI document; uses nothing but the document itself.
const make = (tag, text, parent) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  parent.append(element);
  return element;
};

const show = (spec) => {
  const main = document.getElementById("calls");
  main.textContent = "";
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, call] of Object.entries(methods)) {
      const section = make("section", null, main);
      const heading = make("h2", null, section);
      make("span", method.toUpperCase(), heading).className = "method";
      make("code", path, heading);
      make("p", [call.summary, call.description].filter(Boolean).join(". "), section);
      if (call.parameters?.length) {
        const table = make("table", null, section);
        for (const parameter of call.parameters) {
          const row = make("tr", null, table);
          make("th", parameter.name, row);
          make("td", parameter.in, row);
          make("td", parameter.description ?? "", row);
        }
      }
      for (const [kind, body] of Object.entries(call.requestBody?.content ?? {})) {
        const name = body.schema?.$ref?.split("/").pop();
        make("p", `Body: ${kind}`, section);
        const schema = spec.components.schemas[name];
        if (schema) make("pre", JSON.stringify(schema, null, 2), section);
      }
    }
  }
};

fetch("/openapi.json").then((answer) => answer.json()).then(show).catch((error) => {
  document.getElementById("calls").textContent = `The document cannot be read: ${error}`;
});
