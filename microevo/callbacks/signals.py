"""Signals that reach a training: they take effect between two steps, in all processes at the same one."""

import signal
import threading
from typing import Any

import torch
import torch.distributed as dist
from lightning import Trainer

STOPPING = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)


class Interrupted(SystemExit):
    """A signal, raised between two steps with the exit code that a shell reports for it."""


class Signals:
    """Notes Ctrl-C, SIGTERM and SIGUSR1 while a training runs.

    A signal handler interrupts the interpreter anywhere, also in the middle of an optimiser step: what it saves then is half of
    a step. Here it only notes the signal, and the training asks for it where its state is whole. A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self._noted = 0
        self._handlers: dict[int, Any] = {}
        self._group: dist.ProcessGroup | None = None

    def catch(self, trainer: Trainer) -> None:
        """Note signals from here on."""
        self._noted = 0
        if trainer.world_size > 1:
            # Of the hosts alone: they need not wait for their devices to agree.
            self._group = dist.new_group(backend="gloo")
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.getsignal(number) for number in STOPPING}
            # Not where the caller ignores Ctrl-C, as a shell does for what runs in the background, or handles it.
            if self._handlers[signal.SIGINT] is not signal.default_int_handler:
                del self._handlers[signal.SIGINT]
            for number in self._handlers:
                signal.signal(number, self._note)

    def release(self) -> None:
        """Give the signals back to those who had them."""
        for number, handler in self._handlers.items():
            if signal.getsignal(number) in (self._note, signal.default_int_handler):
                signal.signal(number, handler)
        self._handlers = {}
        if self._group is not None and dist.is_initialized():
            dist.destroy_process_group(self._group)
        self._group = None

    def between_steps(self) -> int:
        """The signal that ends the training here, 0 for none; all processes must ask together.

        A SIGUSR1 that was handled before, as Lightning does to queue its SLURM job again, goes to that handler instead, which
        finds the training in a state that can be saved.
        """
        number, self._noted = self._noted, 0
        if self._group is not None:
            common = torch.tensor(number)
            dist.all_reduce(common, op=dist.ReduceOp.MAX, group=self._group)
            number = int(common)
        if not self._is_handled(number):
            return number
        self._handlers[number](number, None)
        return 0

    def in_validation(self) -> int:
        """The signal that ends the training in a validation, 0 for none.

        Several processes, whose validations have different numbers of batches, stop before the next step, as does what
        another handler waits for.
        """
        return 0 if self._group is not None or self._is_handled(self._noted) else self._noted

    def _is_handled(self, number: int) -> bool:
        return number == signal.SIGUSR1 and callable(self._handlers.get(number))

    def _note(self, number: int, *_: object) -> None:
        self._noted = max(self._noted, number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
