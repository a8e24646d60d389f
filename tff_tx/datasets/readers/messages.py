"""Conversations as people keep them: messages with roles, Alpaca's columns, or a prompt and an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tff_tx.datasets.readers import values

USER, ASSISTANT = "user", "assistant"
_ROLES = {
    **dict.fromkeys(("human", "prompter"), USER),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model"), ASSISTANT),
}
_LISTS = ("messages", "conversations")
_INSTRUCTION = ("instruction", "input", "context")  # Alpaca has an output for it, Dolly a response
_PROMPTS, _ANSWERS = ("prompt", "question"), ("completion", "response", "answer")


def messages_of(
    row: Mapping, text_columns: Sequence[str], target_column: str, answered: bool = True
) -> list[dict[str, str]] | None:
    """The messages of a row, dicts with `role` and `content`; None: it has none.

    They are in `messages` or `conversations` (also with `from` and `value`, as ShareGPT has them), in `instruction`,
    `input` and `output`, or Dolly's `context` and `response`, in the text and target columns, or in columns such as
    `prompt` and `completion`.

    Args:
      row: A row.
      text_columns: The columns of the prompt, unless it has others by usual names.
      target_column: That of the answer.
      answered: Whether the last message must be an answer; else there may be none.

    Raises:
      TypeError: If they are not what they should be: messages with roles and texts, the last an answer.
    """
    for name in (*_LISTS, *text_columns[:1]):
        found = values.parsed(row.get(name))
        first = found[0] if isinstance(found, list) and found else None
        # A prompt may be a JSON array, too.
        if isinstance(first, Mapping) and (name in _LISTS or {"role", "from"} & first.keys()):
            return _checked(list(map(_message, found)), answered)
    names = [(text_columns, target_column), (_INSTRUCTION, "output"), (_INSTRUCTION, "response")]
    names += [((prompt,), answer) for prompt in _PROMPTS for answer in _ANSWERS]
    for prompts, answer in names:
        if prompts[0] in row and answer in row and (answered or not values.is_empty(row[answer])):
            return _checked([_prompt(row, prompts), _message(("assistant", row[answer]))])
    if answered:
        return None
    # Beside usual names a column that nobody has named may be all of a conversation, as Alpaca's text is.
    names = [*names[1:], names[0]] if tuple(text_columns) == ("text",) else names
    prompts = (prompts for prompts, _ in names if prompts[0] in row)
    return next((_checked([_prompt(row, columns)], answered) for columns in prompts), None)


def _prompt(row: Mapping, names: Sequence[str]) -> dict[str, str]:
    parts = [values.as_text(row[name]) for name in names if not values.is_empty(row.get(name))]
    return _message(("user", "\n\n".join(parts)))


def _message(one) -> dict[str, str]:
    if isinstance(one, Mapping):
        one = (one.get("role", one.get("from")), one.get("content", one.get("value")))
    if not isinstance(one, tuple):
        raise TypeError
    role, content = values.as_text(one[0]), _content(one[1])
    return {"role": _ROLES.get(role, role), "content": content}


def _content(content) -> str:
    """The text of a message, which may be in parts, {type: "text", text}; parts of other types are rejected."""
    if not isinstance(content, list):
        return values.as_text(content)
    if not all(isinstance(part, Mapping) and "text" in part for part in content):
        raise TypeError
    return "".join(values.as_text(part["text"]) for part in content)


def _checked(messages, answered=True):
    ends = bool(messages) and (not answered or messages[-1]["role"] == ASSISTANT)
    if not ends or not all(m["role"] and m["content"] for m in messages):
        raise TypeError
    return messages
