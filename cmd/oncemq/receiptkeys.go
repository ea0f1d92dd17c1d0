package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// receiptKeyOptions are the keys that prove where receipts come from. They are given
// in a file, and in no other way: a command line shows in the list of processes.
type receiptKeyOptions struct{ file string }

// options are the option, for who verifies receipts or for who signs them.
func (o *receiptKeyOptions) options(verifies bool) []*option {
	key := &option{
		name: "receipt-key-file", category: catSubscription, set: name(&o.file),
		usage: "`FILE` with a key of 16 bytes or more in each line, as publishers have it: receipts are signed with the first",
	}
	if verifies {
		key.category = catDelivery
		key.usage = "`FILE` with a key of 16 bytes or more in each line, as consumers have it: receipts that are signed with " +
			"none of them are ignored. Without it whoever may publish to the receipt topic can acknowledge"
	}
	return withEnv([]*option{key})
}

// leastReceiptKey is the shortest key, in bytes, that autopaho.Config.ReceiptKeys
// takes.
const leastReceiptKey = 16

// read returns the keys: the lines of the file that are not empty, as they are.
func (o *receiptKeyOptions) read(ctx context.Context, sh *shell) ([][]byte, error) {
	if o.file == "" {
		return nil, nil
	}
	bad := func(err error) ([][]byte, error) {
		return nil, &usageError{option: "--receipt-key-file", problem: err.Error()}
	}
	data, err := readFile(ctx, "--receipt-key-file", o.file)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for i, line := range bytes.Split(data, []byte("\n")) {
		key := bytes.TrimSuffix(line, []byte("\r"))
		switch {
		case len(key) == 0:
			continue
		case len(key) < leastReceiptKey:
			return bad(fmt.Errorf("line %d of %s has %d bytes; use %d random ones or more, such as openssl rand -base64 32 makes",
				i+1, shown(o.file), len(key), leastReceiptKey))
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return bad(errors.New(shown(o.file) + " holds no key; write one of 16 random bytes or more in a line"))
	}
	warnReadable(sh, "receipt keys", o.file)
	return keys, nil
}
