package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"io"
	"iter"
	"os"
)

// sample is a day of a café's orders: 2,000 lines, 160 customers.
//
//go:embed orders.ndjson
var sample []byte

// maxLine is the longest line that is read.
const maxLine = 1 << 20

// open returns the input that was asked for: a file, "-" for stdin, or "" for the
// orders that ship with the program.
func open(name string, stdin io.Reader) (io.ReadCloser, error) {
	switch name {
	case "":
		return io.NopCloser(bytes.NewReader(sample)), nil
	case "-":
		return io.NopCloser(stdin), nil
	}
	return os.Open(name)
}

// line is one line of the input; number counts from 1.
type line struct {
	number int
	text   []byte
	err    error // the input ends here
}

// lines reads r, after so many lines that are skipped, until ctx ends. Empty lines
// count, but are left out. It reads in a goroutine of its own, because nothing can
// end a read from a terminal, or from a pipe on which nothing comes: then that
// goroutine stays behind, and ends with the program.
func lines(ctx context.Context, r io.Reader, skip int) iter.Seq[line] {
	return func(yield func(line) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		read := make(chan line) // scan sends and closes
		go scan(ctx, r, skip, read)
		for {
			select {
			case l, ok := <-read:
				if !ok || !yield(l) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func scan(ctx context.Context, r io.Reader, skip int, to chan<- line) {
	defer close(to)
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 64<<10), maxLine)
	for number := 1; ; number++ {
		l := line{number: number}
		more := scanner.Scan()
		text := bytes.TrimSpace(scanner.Bytes())
		switch {
		case more && (number <= skip || len(text) == 0):
			continue
		case more:
			l.text = bytes.Clone(text) // the scanner uses its bytes again
		case scanner.Err() != nil:
			l.err = scanner.Err()
		default:
			return
		}
		select {
		case to <- l:
		case <-ctx.Done():
			return
		}
		if !more {
			return
		}
	}
}
