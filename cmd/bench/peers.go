//go:build peers

package main

import "github.com/goutbox/goutbox/cmd/bench/internal/peer"

func init() { peers = peer.All }
