package main

import (
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"time"
)

// guard ends the program when a measurement hangs, and shows where. It is used by
// one goroutine.
type guard struct {
	stderr io.Writer
	clean  func() // removes what there is, before the end
	timer  *time.Timer
}

// watch begins to wait for rest.
func (g *guard) watch(limit time.Duration) {
	g.timer = time.AfterFunc(limit, func() {
		fmt.Fprintf(g.stderr, "\nbench: a measurement has not ended in %s. This is what all goroutines do:\n\n", limit)
		_ = pprof.Lookup("goroutine").WriteTo(g.stderr, 2)
		g.clean()
		os.Exit(exitFailed)
	})
}

// rest ends what watch has begun.
func (g *guard) rest() { g.timer.Stop() }
