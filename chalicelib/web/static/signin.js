/** The dialog that asks who is there: step by step, until there are credentials. */

import { $, el, fill } from "./dom.js";

/**
 * What a field is, as password managers know it (HTML, "autofill"). A user name need not be an
 * email address: whoever made the user pool chose what it is.
 */
const FIELDS = {
  email: { label: "Email address", type: "text", inputmode: "email", autocomplete: "username" },
  password: { label: "Password", type: "password", autocomplete: "current-password" },
  fresh: { label: "New password", type: "password", autocomplete: "new-password" },
  again: { label: "New password, again", type: "password", autocomplete: "new-password" },
  code: { label: "Code", type: "text", inputmode: "numeric", autocomplete: "one-time-code" },
  key: { label: "API key", type: "password", autocomplete: "current-password" },
};

/** Where the answer to a challenge goes that asks for a code. */
const CODES = {
  SOFTWARE_TOKEN_MFA: ["SOFTWARE_TOKEN_MFA_CODE", "Enter the code that your authenticator shows."],
  SMS_MFA: ["SMS_MFA_CODE", "Enter the code that was sent to your phone."],
  EMAIL_OTP: ["EMAIL_OTP_CODE", "Enter the code that was sent to you."],
};

/** Ask for an API key. It is not tried here: the API is, with the next request. */
export const askForKey = (reason) =>
  run({
    title: "A key, please",
    text: "This API is open to those who have a key. It is kept until this tab is closed.",
    reason,
    fields: ["key"],
    submit: "Continue",
    attempt: async ({ key }) => ({ done: key.trim() }),
  });

/** Have somebody sign in with Cognito; their tokens. */
export const askToSignIn = (cognito, reason) => run(new Steps(cognito).signIn({ reason }));

/** Each step's `attempt` gives the next step, or `{ done }`; what it throws is said right there. */
class Steps {
  #cognito;

  constructor(cognito) {
    this.#cognito = cognito;
  }

  signIn({ email = "", reason = "" } = {}) {
    return {
      title: "Sign in",
      reason,
      fields: ["email", "password"],
      values: { email },
      submit: "Sign in",
      attempt: async ({ email, password }) => {
        const signedIn = this.#cognito.signIn(email, password);
        return this.#after(await signedIn.catch((error) => this.#unlessReset(error, email)));
      },
      ways: { "Forgot your password?": ({ email }) => this.#forgot(email) },
    };
  }

  /** An administrator can have a password reset: then a code has been sent already. */
  #unlessReset(error, email) {
    if (error.code !== "PasswordResetRequiredException") throw error;
    return { step: this.#reset(email, "Your password has to be reset. Enter the code you got.") };
  }

  #after(outcome) {
    if (outcome.step) return outcome.step;
    if (outcome.tokens) return { done: outcome.tokens };
    if (outcome.challenge === "NEW_PASSWORD_REQUIRED") return this.#newPassword(outcome);
    if (outcome.challenge in CODES) return this.#code(outcome);
    throw new Error(`This page cannot answer the challenge ${outcome.challenge}.`);
  }

  #newPassword(asked) {
    return {
      title: "Choose a new password",
      text: "The one you have was for the first time only.",
      fields: ["email", "fresh", "again"],
      values: { email: asked.username },
      submit: "Set password",
      attempt: async ({ fresh }) =>
        this.#after(await this.#cognito.answer(asked, { NEW_PASSWORD: fresh })),
      ways: this.#back,
    };
  }

  #code(asked) {
    const [name, text] = CODES[asked.challenge];
    return {
      title: "One more step",
      text,
      fields: ["code"],
      submit: "Continue",
      attempt: async ({ code }) =>
        this.#after(await this.#cognito.answer(asked, { [name]: code.trim() })),
      ways: this.#back,
    };
  }

  #forgot(email) {
    return {
      title: "Forgot your password?",
      text: "A code is sent to you, with which you can choose a new one.",
      fields: ["email"],
      values: { email },
      submit: "Send code",
      attempt: async ({ email }) => {
        const destination = await this.#cognito.forgot(email);
        return this.#reset(email, `A code is on its way to ${destination}.`);
      },
      ways: this.#back,
    };
  }

  #reset(email, text) {
    return {
      title: "Choose a new password",
      text,
      fields: ["code", "fresh", "again"],
      submit: "Set password",
      attempt: async ({ code, fresh }) => {
        await this.#cognito.confirmForgot(email, code.trim(), fresh);
        return this.#after(await this.#cognito.signIn(email, fresh));
      },
      ways: this.#back,
    };
  }

  get #back() {
    return { "Back to sign-in": ({ email }) => this.signIn({ email }) };
  }
}

/** From step to step until one is done; what that gives. */
async function run(step) {
  const dialog = $("#sign-in");
  const stay = () => dialog.open || dialog.showModal(); // a browser may insist on Escape
  dialog.addEventListener("close", stay);
  while (!("done" in step)) step = await show(dialog, step);
  dialog.removeEventListener("close", stay);
  dialog.close();
  $("#sign-in-form").replaceChildren(); // no password stays in the page
  return step.done;
}

/** Show a step until its attempt succeeds or another way is taken; the step that follows. */
function show(dialog, step) {
  const form = $("#sign-in-form");
  const { fields, values = {}, ways = {}, reason = "" } = step;
  const error = el("p", { class: "error", role: "alert" }, reason);
  const submit = el("button", { type: "submit", class: "primary" }, step.submit);
  const said = () => Object.fromEntries(fields.map((name) => [name, form.elements[name].value]));
  return new Promise((resolve) => {
    const links = Object.entries(ways).map(([text, way]) =>
      el(
        "button",
        { type: "button", class: "quiet small", on: { click: () => resolve(way(said())) } },
        text,
      ),
    );
    form.onsubmit = async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        resolve(await attempt(step, said()));
      } catch (problem) {
        error.textContent = problem.message;
      }
      submit.disabled = false;
    };
    $("#sign-in-title").textContent = step.title;
    $("#sign-in-text").textContent = step.text ?? "";
    fill(
      form,
      ...fields.map((name) => field(name, values[name])),
      error,
      el("p", { class: "buttons" }, links, submit),
    );
    if (!dialog.open) dialog.showModal();
    ([...form.elements].find((input) => !input.value) ?? submit).focus();
  });
}

function attempt(step, said) {
  if ("again" in said && said.again !== said.fresh)
    throw new Error("The two passwords are not the same.");
  return step.attempt(said);
}

function field(name, value = "") {
  const { label, ...attributes } = FIELDS[name];
  const id = `sign-in-${name}`;
  const constants = { id, name, required: true, autocapitalize: "none", spellcheck: "false" };
  return [
    el("label", { for: id }, label),
    el("input", { ...constants, ...attributes, value, class: "field" }),
  ];
}
