package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// diskSource finds a counter of the bytes that go to the device. That of the device
// comes first: the process's own counts a page as written whole with the folio it
// is in, which a kernel with large folios makes 256 KiB for a sync of 256 bytes.
func diskSource(device string) (what string, read func() (uint64, bool)) {
	if dir := blockDir(device); dir != "" {
		stat := filepath.Join(dir, "stat")
		if _, ok := sectors(stat); ok {
			return "/sys/class/block/" + filepath.Base(dir) + "/stat, all that the device was given: the journal's too, and that of other programs",
				func() (uint64, bool) { return sectors(stat) }
		}
	}
	const own = "/proc/self/io"
	if _, ok := processBytes(own); ok {
		return "write_bytes of " + own + ", what this process made dirty: too much where the kernel has large folios, and without the journal",
			func() (uint64, bool) { return processBytes(own) }
	}
	return "", nil
}

// sectors reads the seventh field of a device's stat: sectors of 512 bytes written.
func sectors(stat string) (uint64, bool) {
	b, _ := os.ReadFile(stat)
	fields := strings.Fields(string(b))
	if len(fields) < 7 {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[6], 10, 64)
	return n * 512, err == nil
}

func processBytes(file string) (uint64, bool) {
	b, _ := os.ReadFile(file)
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, "write_bytes: "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
