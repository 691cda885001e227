//go:build !linux

package machine

// diskSource has nothing here that can be read without privileges.
func diskSource(string) (string, func() (uint64, bool)) { return "", nil }
