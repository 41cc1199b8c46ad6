"""A model that says what it was asked: for trying out, and for measuring everything but a model."""

from fieldpost.messages.responses import Output
from fieldpost.ports.models import Emit, Question


class EchoModel:
    """Answers with the last message."""

    async def answer(self, question: Question, emit: Emit) -> Output:  # noqa: ARG002
        """Emits nothing: the whole is there at once."""
        return Output(text=question.messages[-1].content)
