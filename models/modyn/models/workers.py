"""Processes that run the user's functions of single samples, on whole batches."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any

from modyn.core.config.pipeline import DataSection
from modyn.core.draws import Draws
from modyn.core.errors import CancelledError, JobFailedError
from modyn.models.decoding import Decoder
from modyn.models.parserprocess import PATIENCE_SECONDS, ParserProcess
from modyn.models.parsers.payload import Columns

if TYPE_CHECKING:
    from modyn.models.tensors import Tensors

    _Work = tuple[Columns, Draws, int, Future[Tensors]]


class ParserPool:
    """Parses batches, each as a whole in one of several processes; what comes out does not depend on how many.

    Made first thing in a job, before there are channels and threads, its processes are forks, which takes milliseconds;
    later, they are new interpreters, which are ready after seconds. Construction waits for neither.

    >>> import numpy as np, pyarrow as pa
    >>> data = DataSection(dataset_id="d", bytes_parser_function="def bytes_parser_function(data): return data[0] / 2")
    >>> with ParserPool(data, None, workers=0) as pool:
    ...     pool.submit({"data": pa.array([b"a", b"c"])}, Draws(0, 0, 0, np.arange(2)), batch=0).result()
    tensor([48.5000, 49.5000])

    Args:
        data: its parser, tokenizer and transformations are used.
        root: folder that user code may be imported from, or None.
        workers: processes; 0: batches are parsed by the caller of :meth:`submit`, in its thread, before it returns.
        threads: of torch in each process; other numbers may give other bits, so it is that of the training.

    Raises:
        InvalidInputError: a parser or function cannot be loaded.
        NotAvailableError: something needed is not installed.
    """

    def __init__(self, data: DataSection, root: str | None, workers: int, threads: int = 1) -> None:
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._broken: JobFailedError | None = None
        self._closed = False
        # All of them before the first thread, and before the user's code has started threads of its own.
        self._processes = [ParserProcess(data, root, threads) for _ in range(workers)]
        try:
            self._decoder = Decoder(data, root)
        except BaseException:
            self._end_processes()
            raise
        self._threads = [
            threading.Thread(target=self._serve, args=(process,), name=f"parser-{index}", daemon=True)
            for index, process in enumerate(self._processes)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, columns: Columns, draws: Draws, batch: int) -> Future[Tensors]:
        """Parses a batch as :meth:`Decoder.inputs` does; batches are begun in the order in which they are submitted.

        The caller limits how many are under way: all of them, and what comes of them, are in memory.

        Args:
            columns: payload columns by name, each of length n.
            draws: random numbers for the n samples.
            batch: its number in the epoch.

        Returns:
            The tensors, or the ModynError that parsing raised; JobFailedError if a process died.
        """
        future: Future[Tensors] = Future()
        if self._threads:
            self._work.put((columns, draws, batch, future))
        else:
            _settle(future, self._decoder.inputs, columns, draws, batch)
        return future

    def close(self) -> None:
        """Ends the processes, whatever they are doing; batches that are not parsed yet are cancelled, or fail."""
        self._closed = True
        while True:
            try:
                work = self._work.get_nowait()
            except queue.Empty:
                break
            if work is not None:
                work[3].cancel()
        for _ in self._threads:
            self._work.put(None)
        self._end_processes()
        for thread in self._threads:
            thread.join()

    def _end_processes(self) -> None:
        for process in self._processes:
            process.hang_up()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for process in self._processes:
            process.close(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> ParserPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, process: ParserProcess) -> None:
        """Hands one batch after the other to one process."""
        while (work := self._work.get()) is not None:
            columns, draws, batch, future = work
            _settle(future, self._parsed_by, process, columns, draws, batch)

    def _parsed_by(self, process: ParserProcess, columns: Columns, draws: Draws, batch: int) -> Tensors:
        if self._broken is not None:
            raise self._broken
        try:
            return process.parse(columns, draws, batch)
        except JobFailedError as error:
            if self._closed:
                raise CancelledError("the pool was closed while this batch was being parsed") from error
            self._broken = error  # the others go on with what they have begun
            raise


def _settle(future: Future[Tensors], parse: Callable[..., Tensors], *arguments: Any) -> None:
    """Makes what a call returns or raises the outcome of a future that was not cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(parse(*arguments))
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the future raises it
        future.set_exception(error)
