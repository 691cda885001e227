//go:build !unix

package bolt_test

import "io/fs"

func blocksOf(info fs.FileInfo) int64 { return info.Size() }
