package subject

import "github.com/goutbox/goutbox/store/bolt"

// Bolt is store/bolt with default options.
var Bolt = Subject{
	Name:    "bolt",
	About:   "goutbox store/bolt, default options: a synced log in front of a bbolt database",
	Durable: true,
	Open: func(dir string) (Queue, error) {
		store, err := bolt.Open(dir, bolt.WithLogger(logger))
		if err != nil {
			return nil, err
		}
		return newOutboxQueue(store), nil
	},
}
