import ArgumentParser
import Digests
import Foundation
import Kademlia
import Node
import Primitives
import Wire

/// `atoll node put`: stores an item (BEP 44).
struct NodePut: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "put", abstract: "Store a value: under its own hash, or with --mutable under a key.")
    @Argument(help: "The value; - reads standard input.") var value: String?
    @Flag(help: "Under the key of --key or --data, signed.") var mutable = false
    @Option(help: "A key file (made when it is not there); implies --mutable.") var key: String?
    @Option(help: "Salt of a mutable item, at most 64 bytes.") var salt = ""
    @Option(help: "Its sequence (default: one more than the newest that is found).") var seq: Int64?
    @Option(help: "Store only where the stored sequence is this one.") var cas: Int64?
    @Flag(help: "The value is bencode already; otherwise it is stored as a byte string.") var bencoded = false
    @OptionGroup var options: ToolOptions

    func run() throws {
        let text = try options.positional(value, "the value")
        let bytes = text == "-" ? [UInt8](FileHandle.standardInput.readDataToEndOfFile()) : Array(text.utf8)
        let value = try encoded(bytes)
        let signed = mutable || key != nil
        if !signed, !salt.isEmpty || seq != nil || cas != nil {
            throw NodeError.badInput("--salt, --seq and --cas are for mutable items: add --mutable or --key FILE")
        }
        guard salt.utf8.count <= StoredItem.saltLimit else {
            throw NodeError.badInput("--salt has \(salt.utf8.count) bytes, at most \(StoredItem.saltLimit) allowed")
        }
        if let seq, seq < 0 { throw NodeError.badInput("--seq \(seq): from 0 to 2^63 - 1") }
        let identity = signed ? try options.signer(key) : nil
        if signed, identity == nil {
            throw NodeError.badInput(
                "a mutable item needs a key that stays: --key FILE, or --data DIR of a node or peer")
        }
        let tool = try OverlayTool(options, identity: identity)
        let salt = Array(salt.utf8)
        let (seq, cas) = (seq, cas)
        var item: StoredItem?
        let outcomes = try tool.run { done, overlay, now in
            if !signed {
                guard done.isEmpty else { return nil }
                let immutable = StoredItem(value: value, signed: nil)
                item = immutable
                return overlay.put(immutable, cas: nil, at: now)
            }
            if done.isEmpty, seq == nil { return overlay.getMutable(key: identity!.peerID, salt: salt, at: now) }
            guard item == nil else { return nil }
            var newest: Int64 = 0
            if case .item(let found)? = done.first?.result { newest = found?.signed?.sequence ?? 0 }
            let next = seq ?? (newest == .max ? newest : newest + 1)
            item = overlay.sign(value, salt: salt, sequence: next)
            return overlay.put(item!, cas: cas, at: now)
        }
        try report(item!, outcomes.last!)
    }

    private func encoded(_ bytes: [UInt8]) throws -> [UInt8] {
        let value: [UInt8]
        if bencoded {
            guard (try? BencodeView(bytes)) != nil else {
                throw NodeError.badInput(
                    "the value is not canonical bencode; without --bencoded it is stored as a string")
            }
            value = bytes
        } else {
            value = BencodeValue.string(bytes).encoded
        }
        guard value.count <= StoredItem.valueLimit else {
            throw NodeError.badInput(
                "the value has \(value.count) bytes encoded, at most \(StoredItem.valueLimit) are kept (BEP 44)")
        }
        return value
    }

    private func report(_ item: StoredItem, _ outcome: LookupOutcome) throws {
        guard case .stored(let replicas, let refusals) = outcome.result else { return }
        var out = ToolReport("put", outcome)
        out["target"] = item.target.hex
        out["replicas"] = replicas
        out["refusals"] = refusals.map { ["code": $0.code, "text": $0.text] }
        var lines = ["target \(item.target.hex)"]
        if let signed = item.signed {
            out["key"] = signed.key.hex
            out["salt"] = String(decoding: signed.salt, as: UTF8.self)
            out["seq"] = signed.sequence
            lines.append("key \(signed.key.hex) seq \(signed.sequence)")
        }
        lines.append("stored at \(replicas) nodes in \(milliseconds(outcome.elapsed))")
        for refusal in Set(refusals).sorted(by: { ($0.code, $0.text) < ($1.code, $1.text) }) {
            lines.append("refused by \(refusals.count { $0 == refusal }): \(refusal)")
        }
        out.print(json: options.json, lines)
        if replicas == 0 { throw ExitCode(1) }
    }
}

/// `atoll node get`: finds an item.
struct NodeGet: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Find a value by its hash, or with --key by whose it is.")
    @Argument(help: "The hash: 40 hexadecimal digits.") var target: String?
    @Option(help: "Public key of a mutable item: 64 hexadecimal digits.") var key: String?
    @Option(help: "Its salt.") var salt = ""
    @Flag(help: "Only the value's bytes, as stored.") var raw = false
    @OptionGroup var options: ToolOptions

    func run() throws {
        let salt = Array(salt.utf8)
        var wanted: (PeerID?, NodeID)
        if let key {
            guard let peer = PeerID(hex: key) else {
                throw NodeError.badInput("--key \(key): 64 hexadecimal digits of a public key expected")
            }
            guard target == nil else { throw NodeError.badInput("either a hash or --key, not both") }
            wanted = (peer, StoredItem.target(key: peer, salt: salt))
        } else {
            let text = try options.positional(target, "the hash (or --key)")
            guard text.utf8.count == 40, let id = NodeID(hex: text) else {
                throw NodeError.badInput("\(text): 40 hexadecimal digits of a hash expected, or --key KEY")
            }
            wanted = (nil, id)
        }
        let tool = try OverlayTool(options)
        let (peer, id) = wanted
        let outcomes = try tool.run { done, overlay, now in
            guard done.isEmpty else { return nil }
            return peer.map { overlay.getMutable(key: $0, salt: salt, at: now) } ?? overlay.getImmutable(id, at: now)
        }
        guard case .item(let item) = outcomes[0].result else { return }
        try report(item, id, outcomes[0])
    }

    private func report(_ item: StoredItem?, _ id: NodeID, _ outcome: LookupOutcome) throws {
        var out = ToolReport("get", outcome)
        out["target"] = id.hex
        out["found"] = item != nil
        guard let item else {
            if options.json { out.print(json: true, []) } else { complain("nobody has \(id.hex)") }
            throw ExitCode(1)
        }
        if raw {
            FileHandle.standardOutput.write(Data(item.value))
            return
        }
        out["value_hex"] = item.value.hex
        let string = (try? BencodeView(item.value))?.string.map { Array($0) }
        let text = string.flatMap { String(validating: $0, as: UTF8.self) }
        if let text { out["text"] = text }
        var lines = [text ?? "bencoded, in hexadecimal: \(item.value.hex)"]
        if let signed = item.signed {
            out["key"] = signed.key.hex
            out["salt"] = String(decoding: signed.salt, as: UTF8.self)
            out["seq"] = signed.sequence
            lines.append("seq \(signed.sequence), signed by \(signed.key.hex)")
        }
        lines.append("found in \(milliseconds(outcome.elapsed)), \(outcome.hops) hops")
        out.print(json: options.json, lines)
    }
}

func milliseconds(_ duration: Duration) -> String { fixed(duration.inSeconds * 1000, 1) + " ms" }
