/** JSON Schema, as far as an OpenAPI document needs it: in words, as a table, and by an example. */

import { el } from "./dom.js";

const REFERENCE = "#/components/schemas/";

const nameOf = (reference) => decodeURIComponent(reference.slice(REFERENCE.length));

export const anchorOf = (name) => `type-${name}`;

/** The type in words and links: `Label[]`, `string or null`. */
export function typeOf(schema) {
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return [el("a", { href: `#${anchorOf(name)}` }, name)];
  }
  const choices = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (choices) return between(choices.map(typeOf), schema.allOf ? " and " : " or ");
  if (schema.enum || "const" in schema) {
    const values = schema.enum ?? [schema.const];
    return between(
      values.map((value) => [el("code", {}, JSON.stringify(value))]),
      " or ",
    );
  }
  if (schema.type === "array") return [...typeOf(schema.items ?? {}), "[]"];
  if (schema.type === "object" && schema.additionalProperties?.type)
    return ["object of ", ...typeOf(schema.additionalProperties)];
  const types = [schema.type ?? "anything"].flat().join(" or ");
  return [schema.format ? `${types} (${schema.format})` : types];
}

/** What a value has to fulfil beside its type, as short phrases. */
export function limitsOf(schema) {
  const inner = schema.type === "array" && schema.items ? limitsOf(schema.items) : [];
  const said = {
    minimum: (value) => `≥ ${value}`,
    maximum: (value) => `≤ ${value}`,
    minLength: (value) => `at least ${value} characters`,
    maxLength: (value) => `at most ${value} characters`,
    minItems: (value) => `at least ${value}`,
    maxItems: (value) => `at most ${value}`,
    pattern: (value) => `matches ${value}`,
    default: (value) => `default ${JSON.stringify(value)}`,
  };
  const own = Object.entries(said)
    .filter(([name]) => name in schema)
    .map(([name, say]) => say(schema[name]));
  return [...inner, ...own];
}

/** Rows of a table: each property's name, type, limits and description. */
export const rowsOf = ({ properties = {}, required = [] }) =>
  Object.entries(properties).map(([name, schema]) => ({
    name,
    schema,
    isRequired: required.includes(name),
    text: schema.description,
  }));

/** A value that fits a schema: its own example, or one made up of those of its parts. */
export function exampleOf(schema, schemas, depth = 0) {
  if (!schema || depth > 8) return null;
  if ("example" in schema) return schema.example;
  if (schema.examples?.length) return schema.examples[0];
  if ("default" in schema) return schema.default;
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  const inside = (part) => exampleOf(part, schemas, depth + 1);
  if (schema.$ref) return inside(schemas[nameOf(schema.$ref)]);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return inside(choices.find((choice) => choice.type !== "null"));
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map(inside));
  if (schema.properties)
    return Object.fromEntries(
      Object.entries(schema.properties).map(([name, part]) => [name, inside(part)]),
    );
  if (schema.type === "array") return [inside(schema.items)];
  return (
    { object: {}, integer: schema.minimum ?? 1, number: 0.5, boolean: false, null: null }[
      schema.type
    ] ?? (schema.type === "null" ? null : "…")
  );
}

function between(lists, word) {
  return lists.flatMap((list, index) => (index ? [word, ...list] : list));
}
