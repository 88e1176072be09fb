// Says of each Dockerfile that is named on standard input whether BuildKit parses it, or why not.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func check(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return err
	}
	_, _, err = instructions.Parse(parsed.AST, nil)
	return err
}

func main() {
	names := bufio.NewScanner(os.Stdin)
	for names.Scan() {
		answer := "ok"
		if err := check(names.Text()); err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Printf("%s\t%s\n", names.Text(), answer)
	}
}
