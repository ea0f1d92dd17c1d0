// Command echo is a program for the tests of testenv: it says that it is
// ready, repeats its input, and says goodbye on SIGTERM, with exit code 3.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	lines := make(chan string)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- in.Text()
		}
		close(lines)
	}()
	fmt.Println("ready")
	fmt.Fprintln(os.Stderr, "a line on stderr")
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				fmt.Print("end without a newline")
				return
			}
			fmt.Println(line)
		case <-terminate:
			fmt.Println("bye")
			os.Exit(3)
		}
	}
}
