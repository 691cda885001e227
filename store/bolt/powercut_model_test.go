//go:build linux

package bolt_test

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// trace makes a trace of one process as strace would write it, strings in quotes.
func trace(t *testing.T, text string) []event {
	t.Helper()
	text = regexp.MustCompile(`"[^"]*"`).ReplaceAllStringFunc(text, func(s string) string {
		var b strings.Builder
		for _, c := range []byte(strings.Trim(s, `"`)) {
			b.WriteString(`\x` + hex.EncodeToString([]byte{c}))
		}
		return `"` + b.String() + `"`
	})
	tracer := newTracer("/root")
	require.NoError(t, tracer.read(strings.NewReader(strings.TrimLeft(text, "\n"))))
	return tracer.events
}

// after returns what a power cut leaves when all events have happened.
func after(events []event, seed uint64) map[string][]byte {
	d := newDisk()
	for _, e := range events {
		d.apply(e)
	}
	return d.cut(cut{n: len(events), seed: seed, under: "."}).files
}

// A sync is worth something when it has returned, and covers the writes that had
// returned when it began.
func TestPowerCut_Model(t *testing.T) {
	const begin = `
7 openat(AT_FDCWD, "/root/a", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3
7 openat(AT_FDCWD, "/root", O_RDONLY|O_CLOEXEC) = 4
7 fsync(4)                          = 0
7 close(4)                          = 0
`
	data := func(text string, seed uint64) string { return string(after(trace(t, begin+text), seed)["a"]) }
	const one, two = `pwrite64(3, "one", 3, 0) = 3` + "\n", `pwrite64(3, "two", 3, 0) = 3` + "\n"

	require.Equal(t, "", data("7 "+one, 0), "a write alone is not durable")
	require.Equal(t, "one", data("7 "+one, 1), "but may be")
	require.Equal(t, "one", data("7 "+one+"7 fdatasync(3) = 0\n", 0))
	require.Equal(t, "", data("7 "+one+"7 fdatasync(3 <unfinished ...>\n", 0), "a sync that has not returned")
	require.Equal(t, "", data("7 "+one+"7 fdatasync(3 <unfinished ...>\n8 write(1, \"{}\", 2) = 2\n", 0))
	require.Equal(t, "", data("7 "+one+"7 fdatasync(3 <detached ...>\n", 0), "one that never will")
	require.Equal(t, "", data("7 "+one+"7 fdatasync(3 <unfinished ...>\n7 <... fdatasync resumed> <detached ...>\n", 0))
	require.Equal(t, "one", data("7 "+one+"7 fdatasync(3 <unfinished ...>\n8 "+two+"7 <... fdatasync resumed>) = 0\n", 0),
		"what was written meanwhile is not covered")
	require.Equal(t, "two", data("7 "+one+"7 fdatasync(3 <unfinished ...>\n8 "+two+"7 <... fdatasync resumed>) = 0\n", 1))
	require.Equal(t, "one", data("7 "+one+`8 pwrite64(3, "two", 3, 0 <unfinished ...>`+"\n7 fdatasync(3) = 0\n8 <... pwrite64 resumed>) = 3\n", 0),
		"nor is what was being written")
	require.Equal(t, "one", data("7 "+one+"7 fdatasync(3) = 0\n7 ftruncate(3, 1) = 0\n", 0))
	require.Equal(t, "o", data("7 "+one+"7 fdatasync(3) = 0\n7 ftruncate(3, 1) = 0\n", 1))

	seen := map[string]bool{} // two sectors, each of them old or new
	for seed := uint64(2); seed < 40; seed++ {
		long := bytes.Repeat([]byte("x"), sector)
		events := trace(t, begin+`7 pwrite64(3, "`+strings.Repeat("o", 2*sector)+`", 1024, 0) = 1024`+"\n7 fdatasync(3) = 0\n"+
			`7 pwrite64(3, "`+strings.Repeat("x", 2*sector)+`", 1024, 0) = 1024`+"\n")
		file := after(events, seed)["a"]
		require.Len(t, file, 2*sector)
		seen[strconv.FormatBool(bytes.Equal(file[:sector], long))+strconv.FormatBool(bytes.Equal(file[sector:], long))] = true
	}
	require.Len(t, seen, 4)
}

// A name is durable when its folder was synced, whatever was synced of its file.
func TestPowerCut_ModelOfNames(t *testing.T) {
	const text = `
7 mkdirat(AT_FDCWD, "/root/d", 0700) = 0
7 openat(AT_FDCWD, "/root/d/a", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3
7 fsync(3)                          = 0
`
	const syncs = `
7 openat(AT_FDCWD, "/root", O_RDONLY|O_CLOEXEC) = 4
7 fsync(4) = 0
7 openat(AT_FDCWD, "/root/d", O_RDONLY|O_CLOEXEC) = 5
7 fsync(5) = 0
`
	const renamed = `7 renameat(AT_FDCWD, "/root/d/a", AT_FDCWD, "/root/d/b") = 0` + "\n"
	lines := func(s string) string { return strings.ReplaceAll(s, "\n\n", "\n") }
	require.NotContains(t, after(trace(t, text), 0), "d/a")
	require.Contains(t, after(trace(t, text), 1), "d/a")
	require.Contains(t, after(trace(t, lines(text+syncs)), 0), "d/a")
	require.Contains(t, after(trace(t, lines(text+syncs+renamed)), 0), "d/a")
	require.Contains(t, after(trace(t, lines(text+syncs+renamed)), 1), "d/b")
	require.Contains(t, after(trace(t, lines(text+syncs+renamed+"7 fsync(5) = 0\n")), 0), "d/b")
	require.NotContains(t, after(trace(t, lines(text+syncs+renamed+"7 unlinkat(AT_FDCWD, \"/root/d/b\", 0) = 0\n7 fsync(5) = 0\n")), 0), "d/b")
}
