package storetest

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Rules are the numbers of all rules.
func Rules() (numbers []int) {
	for _, r := range rules() {
		numbers = append(numbers, r.number)
	}
	return numbers
}

// Try tries one rule on a store and returns what it has to say against it: nothing,
// if the store obeys.
func Try(t *testing.T, number int, h Harness) (report string) {
	t.Helper()
	for _, r := range rules() {
		if r.number == number {
			h.around(t, func(t *testing.T) {
				report = record(func(rec *recorder) { r.run(t, rec, h) })
			})
			return report
		}
	}
	t.Fatalf("there is no rule %d", number)
	return ""
}

// Disagree is Agree, but returns what it has found.
func Disagree(t *testing.T, seed uint64, steps int, oracle, subject Harness) (report string) {
	t.Helper()
	subject.around(t, func(t *testing.T) {
		report = record(func(rec *recorder) { agree(t, rec, seed, steps, oracle, subject) })
	})
	return report
}

// record runs f with a recorder, in a goroutine that Fatalf can end.
func record(f func(*recorder)) string {
	rec := new(recorder)
	finished := make(chan struct{}) // closed when f has ended, in whatever way
	go func() {
		defer close(finished)
		f(rec)
	}()
	<-finished
	rec.mu.Lock() // a goroutine that the rule has given up may still report
	defer rec.mu.Unlock()
	if !rec.failed {
		return ""
	}
	return strings.Join(rec.lines, "\n")
}

// recorder takes the reports of a rule that is meant to fail.
type recorder struct {
	mu     sync.Mutex // guards the rest
	lines  []string
	failed bool
}

func (r *recorder) Helper() {}

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *recorder) Errorf(format string, args ...any) {
	r.Logf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(string, ...any) { runtime.Goexit() }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}
