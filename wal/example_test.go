package wal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goutbox/goutbox/wal"
)

func Example() {
	dir, err := os.MkdirTemp("", "wal")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	log, err := wal.Open(filepath.Join(dir, "wal"), wal.Options{})
	if err != nil {
		panic(err)
	}
	last, err := log.Append(ctx, []byte("one"), []byte("two")) // on the disk when it returns
	fmt.Println(last, err)
	last, err = log.Write([]byte("three")) // has its place, and is on the disk after the next sync
	fmt.Println(last, err)
	fmt.Println(log.Close()) // which is done here at the latest

	log, err = wal.Open(filepath.Join(dir, "wal"), wal.Options{})
	if err != nil {
		panic(err)
	}
	defer log.Close()
	for record, err := range log.Replay(2) {
		if err != nil {
			panic(err)
		}
		fmt.Println(record.Position, string(record.Data))
	}
	// Output:
	// 2 <nil>
	// 3 <nil>
	// <nil>
	// 2 two
	// 3 three
}
