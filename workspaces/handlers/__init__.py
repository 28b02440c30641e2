"""What answers each operation of the table."""

from workspaces.call import Handler
from workspaces.handlers import editing, objects, opening, reading, system, tokens

HANDLERS: dict[str, Handler] = {
    **system.HANDLERS,
    **reading.HANDLERS,
    **editing.HANDLERS,
    **objects.HANDLERS,
    **opening.HANDLERS,
    **tokens.HANDLERS,
}
"""By the operation's name."""
