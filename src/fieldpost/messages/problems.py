"""Problem documents and their stable types. Source: RFC 9457."""

from fieldpost.messages.responses import Problem


def problem(slug: str, title: str, status: int, *, detail: str = "", instance: str = "") -> Problem:
    """A problem document; `status` is the HTTP status it has or would have."""
    return Problem(type=problem_type(slug), title=title, status=status, detail=detail, instance=instance)


def problem_type(slug: str) -> str:
    """The stable `type` of a problem."""
    return f"urn:fieldpost:problem:{slug}"
