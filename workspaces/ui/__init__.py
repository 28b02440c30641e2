"""Pages for people: the API's own answers as HTML, at the API's own addresses."""
