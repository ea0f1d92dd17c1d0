// Command echo has the name of another one.
package main

func main() {}
