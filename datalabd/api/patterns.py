"""Regular expressions of the schemas, each with the words that tell a person what it wants."""

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SERVICE_LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DATABASE_NAME = r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$"
TRIMMED = r"^\S(.*\S)?$"
WORD = r"^[^-\s]\S*$"
HTTP_URL = r"^[hH][tT][tT][pP][sS]?://\S+$"
ORIGIN = r"^[hH][tT][tT][pP][sS]?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?/?$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(-?\*)?$"
SHA256 = r"^[0-9a-fA-F]{64}$"
REALM = r"^[^/\s]+$"
LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
PORT_NAME = r"^([0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$"

_WORDS = {
    DNS_LABEL: "must be lower-case letters, digits and '-', beginning and ending with a letter or digit",
    SERVICE_LABEL: "must be lower-case letters, digits and '-', beginning with a letter, ending with a letter or digit",
    DNS_NAME: "must be lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit",
    DATABASE_NAME: "must be letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_'",
    TRIMMED: "must not begin or end with white space",
    WORD: "must not contain white space nor begin with '-'",
    HTTP_URL: "must be an http or https address",
    ORIGIN: "must be http or https, a host and perhaps a port, such as https://s3.example.org:9000",
    NAME_PATTERN: "must be lower-case letters, digits and '-', beginning with a letter or digit, perhaps with a * last",
    SHA256: "must be 64 hexadecimal digits",
    REALM: "must not contain '/' nor white space",
    LABEL_KEY: "must be the key of a label, such as app or example.org/app",
    LABEL_VALUE: "must be empty, or letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    PORT_NAME: "must be lower-case letters, digits and single '-' between them, with at least one letter",
}


def blank_or(pattern: str) -> str:
    """The pattern that also accepts the empty string."""
    return f"^$|{pattern}"


def in_words(pattern: str) -> str:
    """What a pattern of this module demands, as the end of a sentence; other patterns are quoted."""
    return _WORDS.get(pattern, f"must match {pattern}")
