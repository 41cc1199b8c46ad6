"""A model behind any server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp, LM Studio, Azure, OpenAI.

Always streamed. Not here: trying again, which is the ledger's business.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any

import httpx2
import msgspec
import openai
from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk

from fieldpost.backends.models.openai.bounds import bound
from fieldpost.backends.models.openai.context import Context
from fieldpost.backends.models.openai.failures import FAILURES, failure
from fieldpost.backends.models.openai.reply import Chunk, Reply
from fieldpost.errors import ModelUnavailableError
from fieldpost.messages.requests import ChatMessage
from fieldpost.messages.responses import Output, Source
from fieldpost.observability import get_logger
from fieldpost.ports.models import Emit, Library, Question

_CONNECT_SECONDS = 5.0
#: Servers without keys want one all the same, from some clients.
_NO_KEY = "none"

log = get_logger()


class OpenAIModel:
    """Open as an async context; see `ports.models.Model`."""

    def __init__(self, url: str, name: str, key: str, *, library: Library | None, passages: int) -> None:
        self._name = name
        self._context = None if library is None else Context(library, passages=passages)
        left_out: Any = openai.omit
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=key or _NO_KEY,
            max_retries=0,
            default_headers={
                "Accept-Encoding": "identity",
                # Else the client takes them from the environment.
                "OpenAI-Organization": left_out,
                "OpenAI-Project": left_out,
            },
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [bound]}),
        )
        #: Whether the server is asked to count tokens in a stream; some do not know the question.
        self._is_counted = True

    async def __aenter__(self) -> "OpenAIModel":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def answer(self, question: Question, emit: Emit) -> Output:
        """Streams; an answer past its bound is cut and ends with `length`. Cancel: safe, the connection is closed."""
        reply = Reply()
        sources: tuple[Source, ...] = ()
        try:
            async with asyncio.timeout(question.timeout_seconds):
                messages, sources = await self._in_context(question.messages)
                await self._hear(messages, question, reply, emit)
        # When all of the text is there, what should come after it does not matter.
        except TimeoutError:
            if not reply.is_whole:
                raise ModelUnavailableError(f"no whole answer within {question.timeout_seconds:g} s") from None
        except ModelUnavailableError:
            if not reply.is_whole:
                raise
        return reply.output(sources)

    async def _in_context(self, messages: Sequence[ChatMessage]) -> tuple[Sequence[ChatMessage], tuple[Source, ...]]:
        if self._context is None:
            return messages, ()
        passages = await self._context.passages(messages)
        return self._context.add(passages, messages), tuple(passage.source for passage in passages)

    async def _hear(self, messages: Sequence[ChatMessage], question: Question, reply: Reply, emit: Emit) -> None:
        async with aclosing(self._chunks(messages, question)) as chunks:
            async for chunk in chunks:
                if piece := reply.take(chunk):
                    await emit(piece)
                if reply.is_full:
                    return

    async def _chunks(self, messages: Sequence[ChatMessage], question: Question) -> AsyncGenerator[Chunk, None]:
        """The stream, looked at; no error of the client's leaves it."""
        try:
            async with await self._open(messages, question) as stream:
                async for chunk in stream:
                    yield msgspec.convert(chunk, Chunk, from_attributes=True)
        except FAILURES as error:
            raise failure(error) from error

    async def _open(self, messages: Sequence[ChatMessage], question: Question) -> AsyncStream[ChatCompletionChunk]:
        try:
            return await self._create(messages, question)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not self._is_counted or "stream_options" not in str(error.body):
                raise
            self._is_counted = False
            log.info("model_counts_no_tokens", model=self._name)
            return await self._create(messages, question)

    async def _create(self, messages: Sequence[ChatMessage], question: Question) -> AsyncStream[ChatCompletionChunk]:
        counting = {"stream_options": {"include_usage": True}} if self._is_counted else {}
        conversation: Any = [msgspec.to_builtins(message) for message in messages]
        return await self._client.chat.completions.create(
            model=self._name,
            messages=conversation,
            stream=True,
            extra_headers={"traceparent": question.traceparent} if question.traceparent else None,
            extra_body={**question.parameters, **counting},
            timeout=httpx2.Timeout(question.timeout_seconds, connect=_CONNECT_SECONDS),
        )
