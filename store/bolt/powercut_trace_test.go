//go:build linux

package bolt_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// This file turns what strace has written into events: changes of files and names,
// and what the program said of itself in between.

// traced are the calls that are recorded: those that the model of a disk knows, and
// those that would change a file behind its back, so that it can refuse them. A
// question mark makes strace pass over a call that the machine does not have.
const traced = "?open,openat,?creat,?openat2,close,?dup,?dup2,?dup3,fcntl,mmap,write,pwrite64," +
	"writev,pwritev,pwritev2,?sendfile,?copy_file_range,?splice,ftruncate,?truncate,fallocate," +
	"?mkdir,mkdirat,?rmdir,?rename,?renameat,renameat2,?unlink,unlinkat,?link,linkat,?symlink,symlinkat," +
	"fsync,fdatasync,?sync_file_range,?io_uring_enter"

type eventKind uint8

const (
	evFact      eventKind = iota + 1 // the program says something: data
	evDeath                          // the process is gone; the page cache is not
	evMkdir                          // path
	evCreate                         // path gets the new file node
	evRename                         // path to to
	evUnlink                         // path
	evWrite                          // node, off, data; it may be on its way to the disk from here on
	evWritten                        // … and the write numbered call has returned
	evSize                           // node, off is the new size
	evGrow                           // node, off is the size that it has at least
	evSyncBegin                      // node, or path for a folder: a sync covers what was done before it began
	evSyncEnd                        // … and is worth something when it has returned
	evStruck                         // here was something that a mutant does not do
)

func (k eventKind) String() string {
	return [...]string{"?", "fact", "death", "mkdir", "create", "rename", "unlink", "write", "written", "size", "grow", "sync begins", "synced", "struck"}[k]
}

// event is one thing that happened, in the order in which it happened.
type event struct {
	kind     eventKind
	path, to string // below the root of the recording; path is also given for a file, as it was called then
	node     int    // of a file
	off      int64
	data     []byte
	call     int // what evWritten and evSyncEnd are the end of
}

func (e event) String() string {
	switch e.kind {
	case evFact:
		return "fact " + string(e.data)
	case evRename:
		return fmt.Sprintf("rename %s to %s", e.path, e.to)
	case evWrite:
		return fmt.Sprintf("write %s %d bytes at %d", e.path, len(e.data), e.off)
	case evSize:
		return fmt.Sprintf("size %s %d", e.path, e.off)
	}
	return e.kind.String() + " " + e.path
}

// tracer reads the traces of one process after the other.
type tracer struct {
	root   string         // of the recording; what is not below it is of no interest
	nodes  map[string]int // files that are there, by path
	names  map[int]string // their last names
	lastID int
	calls  int
	events []event

	// Of the process at hand; its threads share them.
	open    map[int]handle
	pending map[string]*syscallLine // begun and not ended, by thread
}

// handle is an open file or folder.
type handle struct {
	node int    // 0: a folder
	path string // of the folder
}

// syscallLine is a call as strace prints it, in one line or in two.
type syscallLine struct {
	name   string
	args   []string
	ret    int64
	failed bool // or never returned
	begun  int  // what evWrite and evSyncBegin were given as call; 0 if nothing was noted at its begin
}

func newTracer(root string) *tracer {
	return &tracer{root: path.Clean(root), nodes: map[string]int{}, names: map[int]string{}}
}

// read reads the trace of one process, which had died when it ended.
func (t *tracer) read(r io.Reader) error {
	t.open, t.pending = map[int]handle{}, map[string]*syscallLine{}
	b := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := b.ReadString('\n')
		if err == io.EOF {
			break // a line that was cut short had no effect that anybody saw
		}
		if err == nil {
			err = t.line(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return fmt.Errorf("line %d: %w: %.300s", n, err, line)
		}
	}
	t.add(event{kind: evDeath})
	return nil
}

func (t *tracer) line(line string) error {
	thread, rest, ok := strings.Cut(line, " ")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case !ok:
		return fmt.Errorf("no thread number")
	case strings.HasPrefix(rest, "---"), strings.HasPrefix(rest, "+++"): // a signal, an end
		return nil
	case rest == "???( <detached ...>": // an end, while strace had yet to read which call it was
		return nil
	case strings.HasPrefix(rest, "<... "):
		_, tail, ok := strings.Cut(rest, " resumed>")
		if strings.HasSuffix(tail, "<detached ...>") {
			return nil // it stays a call that has no end
		}
		c := t.pending[thread]
		if !ok || c == nil {
			return fmt.Errorf("the end of a call that did not begin")
		}
		delete(t.pending, thread)
		return t.end(c, tail)
	}
	name, tail, ok := strings.Cut(rest, "(")
	if !ok {
		return fmt.Errorf("not a call")
	}
	c := &syscallLine{name: name}
	begin, unfinished := strings.CutSuffix(tail, "<unfinished ...>")
	if !unfinished { // nor will it be: the process has ended in the call
		begin, unfinished = strings.CutSuffix(tail, "<detached ...>")
	}
	if unfinished {
		c.args = arguments(begin)
		t.pending[thread] = c
		return t.begin(c)
	}
	close := strings.LastIndex(tail, " = ")
	if close < 0 {
		return fmt.Errorf("no result")
	}
	c.args = arguments(strings.TrimSuffix(strings.TrimRight(tail[:close], " "), ")"))
	if err := t.begin(c); err != nil {
		return err
	}
	return t.end(c, tail[close:])
}

// arguments splits them; with -xx no string has a comma in it.
func arguments(s string) []string {
	s = strings.TrimSuffix(strings.TrimSpace(s), ",")
	if s == "" {
		return nil
	}
	return strings.Split(s, ", ")
}

// begin notes what may take effect before the call returns.
func (t *tracer) begin(c *syscallLine) error {
	switch c.name {
	case "write", "pwrite64":
		fd, err := c.fd(0)
		if err != nil {
			return err
		}
		h, known := t.open[fd]
		if !known && (c.name != "write" || fd != 1) {
			return nil
		}
		data, err := c.text(1)
		if err != nil {
			return err
		}
		if !known {
			for _, one := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
				t.add(event{kind: evFact, data: one})
			}
			return nil
		}
		if c.name == "write" {
			return fmt.Errorf("a write without an offset to %s", t.names[h.node])
		}
		off, err := strconv.ParseInt(c.args[3], 10, 64)
		c.begun = t.next()
		t.add(event{kind: evWrite, node: h.node, path: t.names[h.node], off: off, data: data, call: c.begun})
		return err
	case "fsync", "fdatasync":
		fd, err := c.fd(0)
		if h, known := t.open[fd]; known {
			c.begun = t.next()
			t.add(t.of(h, event{kind: evSyncBegin, call: c.begun}))
		}
		return err
	case "close": // another thread may be given the number before this one has returned
		fd, err := c.fd(0)
		delete(t.open, fd)
		return err
	}
	return nil
}

func (t *tracer) of(h handle, e event) event {
	e.node, e.path = h.node, h.path
	if h.node != 0 {
		e.path = t.names[h.node]
	}
	return e
}

// end notes what a call has done when it has returned.
func (t *tracer) end(c *syscallLine, tail string) error {
	rest, result, ok := strings.Cut(tail, " = ")
	if !ok {
		return fmt.Errorf("no result")
	}
	if extra := strings.TrimRight(strings.TrimRight(rest, " "), ")"); extra != "" && c.args == nil {
		c.args = arguments(extra)
	} else if extra = strings.TrimPrefix(extra, ", "); extra != "" && strings.TrimSpace(extra) != "" {
		c.args = append(c.args, arguments(extra)...)
	}
	word, _, _ := strings.Cut(strings.TrimSpace(result), " ")
	var err error
	if c.ret, err = strconv.ParseInt(word, 0, 64); err != nil || c.ret < 0 {
		c.failed = true
	}
	if c.failed {
		return t.failed(c)
	}
	switch c.name {
	case "write", "pwrite64", "fsync", "fdatasync":
		if c.begun == 0 {
			return nil
		}
		if strings.HasSuffix(c.name, "sync") {
			t.add(event{kind: evSyncEnd, call: c.begun})
			return nil
		}
		if n, _ := strconv.ParseInt(c.args[2], 10, 64); n != c.ret {
			return fmt.Errorf("a short write")
		}
		t.add(event{kind: evWritten, call: c.begun})
		return nil
	case "close":
		return nil
	case "dup", "dup2", "dup3", "fcntl":
		return t.duplicated(c)
	}
	return t.changed(c)
}

// failed passes over a call without effect, and refuses one whose effect the model
// does not know.
func (t *tracer) failed(c *syscallLine) error {
	if c.begun != 0 && !strings.HasPrefix(c.name, "f") && c.ret < 0 {
		return fmt.Errorf("a failed write")
	}
	return nil
}

func (t *tracer) duplicated(c *syscallLine) error {
	if c.name == "fcntl" && !strings.HasPrefix(c.args[1], "F_DUPFD") {
		return nil
	}
	fd, err := c.fd(0)
	if h, known := t.open[fd]; known {
		t.open[int(c.ret)] = h
	}
	return err
}

// changed notes calls about names and sizes.
func (t *tracer) changed(c *syscallLine) error {
	switch c.name {
	case "open", "openat", "creat":
		return t.opened(c)
	case "mkdir", "mkdirat":
		if p, ok, err := t.path(c, c.at()); err != nil || !ok {
			return err
		} else {
			t.add(event{kind: evMkdir, path: p})
		}
	case "rename", "renameat", "renameat2":
		return t.renamed(c)
	case "unlink", "unlinkat":
		p, ok, err := t.path(c, c.at())
		if err != nil || !ok {
			return err
		}
		if t.nodes[p] == 0 {
			return fmt.Errorf("unknown file %s", p)
		}
		delete(t.nodes, p)
		t.add(event{kind: evUnlink, path: p})
	case "ftruncate":
		fd, err := c.fd(0)
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(c.args[1], 10, 64)
		if h, known := t.open[fd]; known {
			t.add(t.of(h, event{kind: evSize, off: size}))
		}
		return err
	case "fallocate":
		fd, err := c.fd(0)
		if err != nil {
			return err
		}
		off, err := strconv.ParseInt(c.args[2], 10, 64)
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(c.args[3], 10, 64)
		h, known := t.open[fd]
		if err != nil || !known {
			return err
		}
		if c.args[1] != "0" {
			return fmt.Errorf("fallocate with a mode is not modelled")
		}
		t.add(t.of(h, event{kind: evGrow, off: off + n}))
	case "mmap":
		fd, err := c.fd(4)
		if _, known := t.open[fd]; known && strings.Contains(c.args[2], "PROT_WRITE") && strings.Contains(c.args[3], "MAP_SHARED") {
			return fmt.Errorf("a file is mapped for writing, which cannot be seen")
		}
		return err
	default:
		fd, err := c.fd(0)
		if _, known := t.open[fd]; known || err != nil || strings.Contains(c.name, "link") || c.name == "truncate" || c.name == "rmdir" {
			return fmt.Errorf("%s is not modelled", c.name)
		}
	}
	return nil
}

func (t *tracer) opened(c *syscallLine) error {
	p, ok, err := t.path(c, c.at())
	if err != nil || !ok {
		return err
	}
	flags := c.args[c.at()+1]
	if strings.Contains(flags, "SYNC") || strings.Contains(flags, "O_DIRECT|") || strings.Contains(flags, "O_TRUNC") || c.name == "creat" {
		return fmt.Errorf("flags %s are not modelled", flags)
	}
	node := t.nodes[p]
	if node == 0 && strings.Contains(flags, "O_CREAT") {
		t.lastID++
		node = t.lastID
		t.nodes[p], t.names[node] = node, p
		t.add(event{kind: evCreate, path: p, node: node})
	}
	t.open[int(c.ret)] = handle{node: node, path: p}
	return nil
}

func (t *tracer) renamed(c *syscallLine) error {
	i := c.at()
	from, ok, err := t.path(c, i)
	if err != nil || !ok {
		return err
	}
	to, ok, err := t.path(c, i+1+i)
	if err != nil {
		return err
	}
	node := t.nodes[from]
	if !ok || node == 0 || path.Dir(from) != path.Dir(to) {
		return fmt.Errorf("a rename of a folder, or across folders")
	}
	delete(t.nodes, from)
	t.nodes[to], t.names[node] = node, to
	t.add(event{kind: evRename, path: from, to: to})
	return nil
}

func (t *tracer) add(e event) { t.events = append(t.events, e) }

func (t *tracer) next() int {
	t.calls++
	return t.calls
}

// at says which argument is the path: those that end in "at" have a folder before it.
func (c *syscallLine) at() int {
	if strings.HasSuffix(strings.TrimSuffix(c.name, "2"), "at") && c.name != "creat" {
		return 1
	}
	return 0
}

// path returns an argument as a path below root.
func (t *tracer) path(c *syscallLine, i int) (p string, ok bool, err error) {
	b, err := c.text(i)
	if err != nil {
		return "", false, err
	}
	p = path.Clean(string(b))
	if !path.IsAbs(p) {
		return "", false, nil // the test works with absolute paths, the Go runtime may not
	}
	if p == t.root {
		return ".", true, nil
	}
	p, ok = strings.CutPrefix(p, t.root+"/")
	return p, ok, nil
}

func (c *syscallLine) fd(i int) (int, error) {
	if i >= len(c.args) {
		return 0, fmt.Errorf("no argument %d", i)
	}
	return strconv.Atoi(c.args[i])
}

// text decodes an argument that strace prints as "\x61\x62".
func (c *syscallLine) text(i int) ([]byte, error) {
	if i >= len(c.args) {
		return nil, fmt.Errorf("no argument %d", i)
	}
	s, ok := strings.CutPrefix(c.args[i], `"`)
	s, end := strings.CutSuffix(s, `"`)
	if !ok || !end {
		return nil, fmt.Errorf("argument %d was cut short", i)
	}
	return hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
}
