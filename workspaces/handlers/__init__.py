"""What answers each operation of the table."""

from workspaces.call import Handler
from workspaces.handlers import editing, opening, reading, system, tokens

HANDLERS: dict[str, Handler] = {
    **system.HANDLERS,
    **reading.HANDLERS,
    **editing.HANDLERS,
    **opening.HANDLERS,
    **tokens.HANDLERS,
}
"""By the operation's name."""
