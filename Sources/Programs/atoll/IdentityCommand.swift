import ArgumentParser
import Digests
import Foundation
import Node
import Primitives

/// `atoll identity`: who a machine is in its pools, and how that outlives its disk. docs/IDENTITY.md tells it.
struct IdentityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "identity", abstract: "Who this machine is: show it, write it down, bring it back.",
        discussion: """
            An identity is an Ed25519 key in a daemon's folder. What a peer has earned is signed with it, so it is worth keeping: 24 words on paper bring \
            it back where disk and copies are gone.
            """,
        subcommands: [Show.self, Words.self, Restore.self], defaultSubcommand: Show.self)

    struct Folder: ParsableArguments {
        @Option(help: "The daemon's folder (default: ~/.atoll/peer).") var data: String?

        var path: String { data ?? Home.path + "/peer" }
        var keyFile: String { path + "/key" }

        /// The seed of the key that is there; nothing is made.
        func seed() throws -> [UInt8] {
            guard FileManager.default.fileExists(atPath: keyFile) else {
                throw NodeError.badInput(
                    .keyUnreadable,
                    "there is no identity in \(path): `atoll peer` makes one when it first runs. Choose another folder with --data, or "
                        + "bring one back with `atoll identity restore`")
            }
            _ = try DataFolder.loadKey(keyFile)
            let text = String(decoding: try readFile(keyFile, limit: 1 << 10), as: UTF8.self)
            return [UInt8](hex: text.trimmingCharacters(in: .whitespacesAndNewlines))!
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print the public key, by which others know it.")
        @OptionGroup var folder: Folder
        @Flag(help: "As JSON: `peer` (64 hexadecimal digits) and `folder`.") var json = false

        func run() throws {
            let peer = SigningKey(seed: try folder.seed())!.peerID
            if json {
                print(jsonText(["peer": peer.hex, "folder": folder.path]))
            } else {
                print("peer    \(peer.hex)\nfolder  \(folder.path)")
            }
        }
    }

    struct Words: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the secret as 24 words, to be written on paper. Whoever reads them can be this machine.")
        @OptionGroup var folder: Folder

        func run() throws {
            let words = SecretWords.words(for: try folder.seed())
            for row in 0..<6 {
                print(
                    (0..<4).map { column in
                        let place = row * 4 + column
                        return (place < 9 ? " " : "") + "\(place + 1) " + words[place]
                    }.joined(separator: "   "))
            }
            complain(
                "keep them as you keep a key: whoever has them can sign as this machine. `atoll identity restore` brings it back"
            )
        }
    }

    struct Restore: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Bring an identity back from its 24 words, read from standard input.",
            discussion: """
                Words are read until the end of input (^D), or 24 of them: not from the command line, where other users of the machine and the shell's \
                history would see them. An identity that is already there stays, unless --replace says otherwise; then it is kept beside.
                """)
        @OptionGroup var folder: Folder
        @Flag(help: "Put another identity in the place of the one that is there, which is kept as key.before.")
        var replace = false

        func run() throws {
            let secret = try read()
            let peer = SigningKey(seed: secret)!.peerID
            if isThere(folder.keyFile) {
                let there = Result { try folder.seed() }
                guard (try? there.get()) != secret else {
                    print("peer    \(peer.hex)\nfolder  \(folder.path): it was this one already")
                    return
                }
                // One that cannot be read is put aside as well: what is wrong with it, its owner may mend.
                guard replace else {
                    let what =
                        (try? there.get()).map { "another identity, \(SigningKey(seed: $0)!.peerID.hex)" }
                        ?? "a key that cannot be used"
                    throw NodeError.badInput(
                        "\(folder.path) holds \(what). Choose another folder with --data, or let it go with "
                            + "--replace (it is kept as key.before)")
                }
            }
            guard !DataFolder.isBusy(folder.path) else {
                throw NodeError.badInput(.folderInUse, "a daemon runs in \(folder.path): stop it first")
            }
            try put(secret)
            print("peer    \(peer.hex)\nfolder  \(folder.path)")
        }

        private func put(_ secret: [UInt8]) throws {
            do {
                try FileManager.default.createDirectory(
                    atPath: folder.path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            } catch {
                throw NodeError.badInput(.folderNotWritable, "cannot make \(folder.path). Choose another with --data")
            }
            if isThere(folder.keyFile) {
                let before = folder.keyFile + ".before"
                guard !isThere(before) else {
                    throw NodeError.badInput("\(before) is there already, and is not overwritten: move it away first")
                }
                guard rename(folder.keyFile, before) == 0 else {
                    throw NodeError.badInput(
                        .folderNotWritable, "cannot put \(folder.keyFile) aside: \(String(cString: strerror(errno)))")
                }
            }
            do { try writeFile(folder.keyFile, Array((secret.hex + "\n").utf8), mode: 0o600) } catch {
                // Without a key the next daemon would make one.
                if !isThere(folder.keyFile) { rename(folder.keyFile + ".before", folder.keyFile) }
                throw error
            }
        }
        private func read() throws -> [UInt8] {
            if isatty(0) == 1 { complain("the 24 words, in as many lines as you like:") }
            var text = ""
            while let line = readLine(), text.utf8.count < 4096 {
                text += line + "\n"
                if text.split(whereSeparator: { !$0.isLetter }).count >= SecretWords.count { break }
            }
            do throws(SecretWords.Mistake) {
                return try SecretWords.secret(from: text)
            } catch {
                throw NodeError.badInput(error.description)
            }
        }
    }
}
