//go:build !race

package bolt_test

const underRace = false
