package bolt

// contentTypes are those with a number, which is on disk: it stays what it is. There is room
// for a third. The text of each would be a twentieth of a small event, in the log and in the
// database.
var contentTypes = [...]string{1: "application/octet-stream", 2: "application/json"}

// contentOf returns the number of a content type, 0 if it has none.
func contentOf(contentType string) byte {
	for n := 1; n < len(contentTypes); n++ {
		if contentTypes[n] == contentType {
			return byte(n)
		}
	}
	return 0
}

// contentType spares an allocation for the types that nearly every event has, which
// earlier versions have in full.
func contentType(b []byte) string {
	for _, known := range contentTypes[1:] {
		if string(b) == known {
			return known
		}
	}
	return string(b)
}
