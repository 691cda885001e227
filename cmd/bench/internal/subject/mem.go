package subject

import "github.com/goutbox/goutbox/store/mem"

// Mem is store/mem.
var Mem = Subject{
	Name:  "mem",
	About: "goutbox store/mem, NO DURABILITY, a reference only: all is gone with the process; made for tests, a call takes longer the more waits",
	Most:  10_000,
	Can:   outboxCan,
	Open:  func(string) (Queue, error) { return newOutboxQueue(mem.New()), nil },
}
