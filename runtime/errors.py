"""What goes wrong when artifacts, weights and arrays meet: one exception with a stable code, the fact and the advice."""

from __future__ import annotations


class RuntimeFault(Exception):
    """A mistake at run time that is the user's to mend: a wrong file, array, weight, machine or disk.

    `code` is stable ("R0101"; docs/errors-runtime.md lists them), `message` one line that states the fact, `help` what to
    do about it. The tool prints it and exits with `status`; a traceback is never shown for one.
    """

    status = 1

    def __init__(self, code: str, message: str, help: str = "") -> None:
        self.code = code
        self.message = message
        self.help = help
        super().__init__(code, message, help)

    def render(self) -> str:
        """The fault as text, in the form of the compiler's diagnostics."""
        lines = [f"error[{self.code}]: {self.message}"]
        if self.help:
            lines.append(f" = help: {self.help}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()
