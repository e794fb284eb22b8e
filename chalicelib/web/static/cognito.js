/**
 * Signing in with Amazon Cognito, by its public operations alone: they need no signature.
 * https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/
 */

const TARGET = "AWSCognitoIdentityProviderService";

const WRONG = "The email address or the password is wrong.";
const TOO_MANY = "Too many attempts. Wait a few minutes, then try again.";

/** For people; of other errors Cognito's own sentence is shown. */
const SENTENCES = {
  UserNotFoundException: WRONG,
  TooManyRequestsException: TOO_MANY,
  LimitExceededException: TOO_MANY,
  TooManyFailedAttemptsException: TOO_MANY,
  CodeMismatchException: "The code is wrong.",
  EnableSoftwareTokenMFAException: "The code is wrong.",
  ExpiredCodeException: "The code has expired. Ask for a new one.",
  UserNotConfirmedException: "This account is not confirmed yet. Ask who runs this service.",
};

class CognitoError extends Error {
  /** @param code the name of Cognito's exception, or null where it did not answer */
  constructor(message, code = null) {
    super(message);
    this.name = "CognitoError";
    this.code = code;
    this.status = 0; // of the API: it was not asked
    this.passes = code === null;
  }
}

/** One app client of a user pool: a public one, without a secret. */
export class Cognito {
  #endpoint;
  #client;

  constructor({ endpoint, client_id }) {
    this.#endpoint = endpoint;
    this.#client = client_id;
  }

  /** `{ tokens }`, or the `{ challenge, session, username }` that Cognito wants answered first. */
  async signIn(username, password) {
    const said = await this.#call("InitiateAuth", {
      AuthFlow: "USER_PASSWORD_AUTH",
      AuthParameters: { USERNAME: username, PASSWORD: password },
    });
    return outcome(said, username);
  }

  async answer({ challenge, session, username }, responses) {
    const said = await this.#call("RespondToAuthChallenge", {
      ChallengeName: challenge,
      Session: session,
      ChallengeResponses: { USERNAME: username, ...responses },
    });
    return outcome(said, username);
  }

  /** New tokens for the ones there are. The refresh token stays, unless a new one comes. */
  async refresh(tokens) {
    const said = await this.#call("InitiateAuth", {
      AuthFlow: "REFRESH_TOKEN_AUTH",
      AuthParameters: { REFRESH_TOKEN: tokens.refresh },
    });
    return { ...tokens, ...outcome(said, tokens.username).tokens };
  }

  /** Send a code for a new password. Tells where to, as far as Cognito says (`a***@e***`). */
  async forgot(username) {
    const said = await this.#call("ForgotPassword", { Username: username });
    return said.CodeDeliveryDetails?.Destination ?? username;
  }

  confirmForgot(username, code, password) {
    const answers = { Username: username, ConfirmationCode: code, Password: password };
    return this.#call("ConfirmForgotPassword", answers);
  }

  /** End the session there too; the page may be closing while it is asked. */
  revoke(tokens) {
    return this.#call("RevokeToken", { Token: tokens.refresh }, { keepalive: true });
  }

  async #call(operation, parameters, options = {}) {
    const answer = await fetch(this.#endpoint, {
      method: "POST",
      headers: {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": `${TARGET}.${operation}`,
      },
      body: JSON.stringify({ ClientId: this.#client, ...parameters }),
      cache: "no-store",
      ...options,
    }).catch(() => {
      throw new CognitoError("The sign-in service does not answer. Check the connection.");
    });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw failure(answer.status, said);
    return said;
  }
}

function outcome({ AuthenticationResult: result, ...challenge }, username) {
  if (!result)
    return {
      challenge: challenge.ChallengeName,
      session: challenge.Session,
      username: challenge.ChallengeParameters?.USER_ID_FOR_SRP ?? username,
    };
  const tokens = {
    username,
    id: result.IdToken,
    expires_at: Date.now() + result.ExpiresIn * 1000,
    ...(result.RefreshToken && { refresh: result.RefreshToken }),
  };
  return { tokens };
}

function failure(status, { __type: type, message }) {
  const code = type?.split("#").at(-1) ?? (status < 500 ? `Http${status}` : null);
  const isWrong = code === "NotAuthorizedException" && /incorrect/i.test(message);
  const sentence = isWrong ? WRONG : (SENTENCES[code] ?? message);
  return new CognitoError(sentence ?? `The sign-in service answered ${status}.`, code);
}
