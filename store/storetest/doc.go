// Package storetest is the law that every [outbox.Store] obeys, as tests: for the
// stores of this module and for one of your own.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness{
//			Open: func(t *testing.T) outbox.Store { return mystore.New(t.TempDir()) },
//		})
//	}
//
// Each rule is a subtest with a number, C01, C02 and so on, and prints its
// sentence when it is broken. The numbers are cited in code; they stay. After
// each rule the books are checked as well (P5): the counters of Stats agree with
// each other, with a recount of the tasks, and with those after a reopen.
//
// Nothing in the rules asks for speed, and none sleeps for long: they poll, and
// give a store ten seconds for what must happen some time. A store without file
// I/O can be run in fake time:
//
//	storetest.Harness{Open: …, Around: synctest.Test}
//
// [Agree] goes further: it has two stores do the same random things and compares
// what is to be seen of them.
//
// Only the standard library is imported, so that a store outside this module can
// be tested without new dependencies.
package storetest
