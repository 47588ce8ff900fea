"""What clients may send, and errors in OpenAI's form."""

from __future__ import annotations

from typing import Any

NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (-(2**63), 2**63),
    "n": (1, 8),
    "max_tokens": (1, 2**31),
    "max_completion_tokens": (1, 2**31),
    "top_logprobs": (0, 20),
}
WHOLE = {"seed", "n", "max_tokens", "max_completion_tokens", "top_logprobs"}
OTHERS: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "messages": list,
    "stream": bool,
    "stream_options": dict,
    "stop": (str, list),
    "response_format": dict,
    "logprobs": bool,
    "user": str,
    "metadata": dict,
}
ROLES = {"system", "developer", "user", "assistant", "tool"}


class Refused(Exception):  # noqa: N818  (an answer, not a failure of ours)
    """A request that is answered with an error."""

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def body(self) -> dict[str, Any]:
        """The error as OpenAI writes it."""
        kind = {401: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}
        default = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": str(self),
                "type": kind.get(self.status, default),
                "param": self.param,
                "code": self.code,
            }
        }


def checked(body: Any, model: str, max_tokens: int, choices: int | None = None) -> dict[str, Any]:
    """A chat request that is safe to pass on: known fields, in range, texts as strings.

    `choices` is how many answers at once the engine can give; None where it says so itself.
    """
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object")
    for key, value in body.items():
        if key in NUMBERS:
            _check_number(key, value)
        elif key not in OTHERS:
            raise Refused(400, f"unrecognized field: {key}", "unknown_field", key)
        elif value is not None and not isinstance(value, OTHERS[key]):
            raise Refused(400, f"{key} has the wrong type", None, key)
    if body.get("model") is None:
        raise Refused(400, f"`model` is missing; there is {model!r}", None, "model")
    if body["model"] != model:
        raise Refused(
            404,
            f"no model named {body.get('model')!r}; there is {model!r}",
            "model_not_found",
            "model",
        )
    if choices is not None and (body.get("n") or 1) > choices:
        raise Refused(
            400, f"n may be {choices} at most: the engine answers no more at once", None, "n"
        )
    _check_form(body.get("response_format"))
    messages = body.get("messages")
    if not messages:
        raise Refused(400, "messages must be a non-empty list", None, "messages")
    clean = {key: value for key, value in body.items() if value is not None}
    clean["messages"] = [_message(number, each) for number, each in enumerate(messages)]
    if "stop" in clean:
        clean["stop"] = _stops(clean["stop"])
    asked = clean.pop("max_completion_tokens", clean.get("max_tokens", max_tokens))
    clean["max_tokens"] = min(int(asked), max_tokens)
    for key in ("user", "metadata"):
        clean.pop(key, None)
    return clean


def _check_number(key: str, value: Any) -> None:
    if value is None:
        return
    low, high = NUMBERS[key]
    wanted = int if key in WHOLE else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted) or not low <= value <= high:
        what = "a whole number" if key in WHOLE else "a number"
        raise Refused(400, f"{key} must be {what} from {low} to {high}", None, key)


def _check_form(form: Any) -> None:
    if form is None or form.get("type") != "json_schema":
        return
    named = form.get("json_schema")
    if not isinstance(named, dict) or not isinstance(named.get("schema"), dict):
        name = "response_format.json_schema.schema"
        raise Refused(400, f"{name} must be an object", None, "response_format")


def _stops(stop: str | list[Any]) -> list[str]:
    """Texts that end an answer; an empty one would end it before it begins."""
    texts = [stop] if isinstance(stop, str) else stop
    if not all(isinstance(each, str) for each in texts):
        raise Refused(400, "stop must be a text or a list of texts", None, "stop")
    return [each for each in texts if each]


def _message(number: int, message: Any) -> dict[str, str]:
    where = f"messages.{number}"
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        raise Refused(400, f"{where}: role must be one of {', '.join(sorted(ROLES))}", None, where)
    content = message.get("content")
    if isinstance(content, list):
        parts = [p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None
                 for p in content]  # fmt: skip
        if any(not isinstance(part, str) for part in parts):
            raise Refused(400, f"{where}: only text parts are supported", None, where)
        content = "".join(str(part) for part in parts)
    if not isinstance(content, str):
        raise Refused(400, f"{where}: content must be text", None, where)
    return {"role": "system" if role == "developer" else role, "content": content}
