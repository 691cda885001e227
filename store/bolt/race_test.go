//go:build race

package bolt_test

// underRace makes tests of size smaller: the race detector makes them ten times as
// slow, and looks for something else.
const underRace = true
