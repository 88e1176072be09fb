// tlogcheck checks a transparency log with Go's own packages (golang.org/x/mod/sumdb) and
// transparency-dev's, none of which is ours. tools/peers builds it.
//
//	tlogcheck note FILE VKEY...                     who of these signed the note
//	tlogcheck proof FILE ENTRY LOG [WITNESS...]     a .tlog-proof holds for the entry in the file ENTRY ("-": its `extra`)
//	tlogcheck consistency OLD NEW HASHES LOG        the checkpoint NEW goes on from OLD; HASHES has one in base64 on a line
//	tlogcheck directory DIR LOG [WITNESS...]        every tile and entry below DIR belongs to DIR/checkpoint
//	tlogcheck make DIR NAME SIZE INDEX OLD          makes a log: keys, tiles, entries, cosigned checkpoint, proofs
//
// LOG and WITNESS are vkeys. It prints JSON and ends with 0, or prints why not and ends with 1.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height      = 8
	proofHeader = "c2sp.org/tlog-proof@v1"
)

type answer struct {
	Origin    string   `json:"origin,omitempty"`
	Size      int64    `json:"size"`
	Root      string   `json:"root,omitempty"`
	Signers   []string `json:"signers"`
	Witnessed []int64  `json:"witnessed,omitempty"` // Unix times
	Index     *int64   `json:"index,omitempty"`
	Entry     []byte   `json:"entry,omitempty"`
	Tiles     int      `json:"tiles,omitempty"`
	Entries   int      `json:"entries,omitempty"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ensure(holds bool, format string, arguments ...any) {
	if !holds {
		check(fmt.Errorf(format, arguments...))
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func read(path string) []byte { return must(os.ReadFile(path)) }

func write(path string, data []byte) {
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	check(os.WriteFile(path, data, 0o644))
}

// verifier of a vkey of either kind.
func verifier(vkey string) note.Verifier {
	if found, err := note.NewVerifier(vkey); err == nil {
		return found
	}
	return must(cosignature.NewVerifierForCosignatureV1(vkey))
}

func open(data []byte, vkeys []string) *note.Note {
	var known []note.Verifier
	for _, vkey := range vkeys {
		known = append(known, verifier(vkey))
	}
	return must(note.Open(data, note.VerifierList(known...)))
}

// checkpoint that the log (vkeys[0]) signed, and all of the other keys too.
func checkpoint(data []byte, vkeys []string) (tlog.Tree, answer) {
	opened := open(data, vkeys)
	var said answer
	for _, signature := range opened.Sigs {
		said.Signers = append(said.Signers, signature.Name)
	}
	for _, vkey := range vkeys {
		wanted, found := verifier(vkey), false
		for _, signature := range opened.Sigs {
			found = found || signature.Name == wanted.Name() && signature.Hash == wanted.KeyHash()
		}
		ensure(found, "%s did not sign", wanted.Name())
	}
	for _, signature := range opened.Sigs {
		if raw := must(base64.StdEncoding.DecodeString(signature.Base64)); len(raw) == 4+8+64 {
			said.Witnessed = append(said.Witnessed, must(cosignature.CoSigV1Timestamp(signature)).Unix())
		}
	}
	lines := strings.Split(opened.Text, "\n")
	ensure(len(lines) >= 4, "no checkpoint")
	ensure(lines[0] == verifier(vkeys[0]).Name(), "of the log %s", lines[0])
	size := must(strconv.ParseInt(lines[1], 10, 64))
	said.Origin, said.Size, said.Root = lines[0], size, lines[2]
	return tlog.Tree{N: size, Hash: must(tlog.ParseHash(lines[2]))}, said
}

func proof(data []byte, entry string, vkeys []string) answer {
	before, signed, found := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(before), "\n")
	ensure(found && lines[0] == proofHeader && len(lines) > 1, "no proof")
	var content []byte
	rest := lines[1:]
	if extra, found := strings.CutPrefix(rest[0], "extra "); found {
		content = must(base64.StdEncoding.DecodeString(extra))
		rest = rest[1:]
	}
	if entry != "-" {
		content = read(entry)
	}
	number, found := strings.CutPrefix(rest[0], "index ")
	ensure(found, "no index")
	index := must(strconv.ParseInt(number, 10, 64))
	tree, said := checkpoint(signed, vkeys)
	check(tlog.CheckRecord(hashes(rest[1:]), tree.N, tree.Hash, index, tlog.RecordHash(content)))
	said.Index, said.Entry = &index, content
	return said
}

func hashes(lines []string) (found []tlog.Hash) {
	for _, line := range lines {
		found = append(found, must(tlog.ParseHash(line)))
	}
	return found
}

func consistency(old, new []byte, lines string, log string) answer {
	before, _ := checkpoint(old, []string{log})
	after, said := checkpoint(new, []string{log})
	check(tlog.CheckTree(hashes(strings.Fields(lines)), after.N, after.Hash, before.N, before.Hash))
	return said
}

// path of a tile as C2SP's tlog-tiles has it, which has no height and calls entries otherwise than sumdb.
func path(directory string, tile tlog.Tile) string {
	own := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
	if entries, found := strings.CutPrefix(own, "data/"); found {
		own = "entries/" + entries
	}
	return filepath.Join(directory, "tile", filepath.FromSlash(own))
}

type stored []tlog.Hash

func (hashes stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		found = append(found, hashes[index])
	}
	return found, nil
}

func (hashes stored) grown(entry []byte, index int64) stored {
	return append(hashes, must(tlog.StoredHashes(index, entry, hashes))...)
}

// tiles reads tiles from a directory for tlog, which believes none that does not belong to the tree.
type tiles struct{ directory string }

func (tiles) Height() int { return height }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data, err := os.ReadFile(path(t.directory, tile))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func directory(folder string, vkeys []string) answer {
	tree, said := checkpoint(read(filepath.Join(folder, "checkpoint")), vkeys)
	var all stored
	authenticated := tlog.TileHashReader(tree, tiles{folder})
	for _, tile := range tlog.NewTiles(height, 0, tree.N) {
		if tile.L != 0 {
			continue
		}
		bundle := tile
		bundle.L = -1
		data := read(path(folder, bundle))
		var indexes []int64
		for at := range int64(tile.W) {
			indexes = append(indexes, tlog.StoredHashIndex(0, tile.N<<height+at))
		}
		leaves := must(authenticated.ReadHashes(indexes))
		for at, leaf := range leaves {
			ensure(len(data) >= 2, "%s ends too early", bundle.Path())
			end := 2 + int(binary.BigEndian.Uint16(data))
			ensure(len(data) >= end, "%s ends within an entry", bundle.Path())
			index := tile.N<<height + int64(at)
			ensure(leaf == tlog.RecordHash(data[2:end]), "entry %d is not what was logged", index)
			all = all.grown(data[2:end], index)
			data = data[end:]
			said.Entries++
		}
		ensure(len(data) == 0, "%s goes on", bundle.Path())
	}
	ensure(must(tlog.TreeHash(tree.N, all)) == tree.Hash, "the entries have another root")
	for _, tile := range tlog.NewTiles(height, 0, tree.N) {
		wanted := must(tlog.ReadTileData(tile, all))
		ensure(bytes.Equal(read(path(folder, tile)), wanted), "%s is wrong", path("", tile))
		said.Tiles++
	}
	return said
}

func lines(hashes []tlog.Hash) (text string) {
	for _, hash := range hashes {
		text += hash.String() + "\n"
	}
	return text
}

func makeLog(folder, name string, size, index, old int64) answer {
	secret, public := must2(note.GenerateKey(nil, name))
	_, other := must2(note.GenerateKey(nil, "other.example/log"))
	witness, witnessKey := must2(note.GenerateKey(nil, "witness.example/w1"))
	var all stored
	var bundle []byte
	for at := range size {
		entry := fmt.Appendf(nil, "entry %d", at)
		all = all.grown(entry, at)
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
		if width := int(at&(1<<height-1)) + 1; width == 1<<height || at == size-1 {
			write(path(folder, tlog.Tile{H: height, L: -1, N: at >> height, W: width}), bundle)
			bundle = nil
		}
	}
	for _, tile := range tlog.NewTiles(height, 0, size) {
		write(path(folder, tile), must(tlog.ReadTileData(tile, all)))
	}
	sign := func(at int64) []byte {
		text := fmt.Sprintf("%s\n%d\n%s\n", name, at, must(tlog.TreeHash(at, all)))
		signers := []note.Signer{must(note.NewSigner(secret)), must(cosignature.NewSignerForCosignatureV1(witness))}
		return must(note.Sign(&note.Note{Text: text}, signers...))
	}
	write(filepath.Join(folder, "checkpoint"), sign(size))
	write(filepath.Join(folder, "checkpoint.old"), sign(old))
	path := fmt.Sprintf("%s\nindex %d\n%s\n%s", proofHeader, index, lines(must(tlog.ProveRecord(size, index, all))), sign(size))
	write(filepath.Join(folder, "entry.tlog-proof"), []byte(path))
	write(filepath.Join(folder, "consistency"), []byte(lines(must(tlog.ProveTree(size, old, all)))))
	write(filepath.Join(folder, "log.key"), []byte(secret))
	write(filepath.Join(folder, "log.vkey"), []byte(public))
	write(filepath.Join(folder, "other.vkey"), []byte(other))
	write(filepath.Join(folder, "witness.vkey"), []byte(must(cosignature.VKeyToCosignatureV1(witnessKey))))
	return answer{Origin: name, Size: size, Signers: []string{name}}
}

func must2(secret, public string, err error) (string, string) {
	check(err)
	return secret, public
}

func main() {
	arguments := os.Args[1:]
	ensure(len(arguments) > 2, "usage: tlogcheck note|proof|consistency|directory|make …")
	command, arguments := arguments[0], arguments[1:]
	var said answer
	switch {
	case command == "note":
		for _, signature := range open(read(arguments[0]), arguments[1:]).Sigs {
			said.Signers = append(said.Signers, signature.Name)
		}
	case command == "proof" && len(arguments) > 2:
		said = proof(read(arguments[0]), arguments[1], arguments[2:])
	case command == "consistency" && len(arguments) == 4:
		said = consistency(read(arguments[0]), read(arguments[1]), string(read(arguments[2])), arguments[3])
	case command == "directory":
		said = directory(arguments[0], arguments[1:])
	case command == "make" && len(arguments) == 5:
		number := func(at int) int64 { return must(strconv.ParseInt(arguments[at], 10, 64)) }
		said = makeLog(arguments[0], arguments[1], number(2), number(3), number(4))
	default:
		ensure(false, "unknown command %s", command)
	}
	check(json.NewEncoder(os.Stdout).Encode(said))
}
