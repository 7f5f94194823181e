"""A Ctrl-C at a chosen place of a training."""

import signal

from lightning import Callback

SEEN: list[int] = []  # optimiser steps before each batch of a training


class CtrlC(Callback):
    """Interrupts this process once, after some steps or in the validation that follows them."""

    def __init__(self, after: int, in_validation: bool = False) -> None:
        self.after, self.in_validation = after, in_validation

    def on_train_batch_start(self, trainer, *_):
        SEEN.append(trainer.global_step)

    def on_train_batch_end(self, trainer, *_):
        self.interrupt(trainer, in_validation=False)

    def on_validation_batch_start(self, trainer, *_):
        self.interrupt(trainer, in_validation=True)

    def interrupt(self, trainer, in_validation):
        if (trainer.global_step, in_validation) == (self.after, self.in_validation):
            self.after = -1
            signal.raise_signal(signal.SIGINT)
