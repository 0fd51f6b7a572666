import ArgumentParser
import Digests
import Foundation
import Kademlia
import Node
import Primitives
import Wire

/// `atoll node put`: stores an item (BEP 44).
struct NodePut: ParsableCommand, OverlayOperation {
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

    func run() throws { try runAlone(key: key) }

    func steps(poolKey: [UInt8]?, identity: SigningKey?) throws -> OverlaySteps {
        let text = try options.positional(value, "the value")
        let bytes = text == "-" ? [UInt8](FileHandle.standardInput.readDataToEndOfFile()) : Array(text.utf8)
        let value = try encoded(bytes)
        guard mutable || key != nil else {
            if !salt.isEmpty || seq != nil || cas != nil {
                throw NodeError.badInput("--salt, --seq and --cas are for mutable items: add --mutable or --key FILE")
            }
            let item = StoredItem(value: value, signed: nil)
            return OverlaySteps(
                next: { done, overlay, now in done.isEmpty ? overlay.put(item, cas: nil, at: now) : nil },
                report: { Self.report(item, $0.last!) })
        }
        guard salt.utf8.count <= StoredItem.saltLimit else {
            throw NodeError.badInput("--salt has \(salt.utf8.count) bytes, at most \(StoredItem.saltLimit) allowed")
        }
        if let seq, seq < 0 { throw NodeError.badInput("--seq \(seq): from 0 to 2^63 - 1") }
        guard let signer = try key.map({ try DataFolder.loadKey($0) }) ?? identity else {
            throw NodeError.badInput(
                "a mutable item needs a key that stays: --key FILE, or --data DIR of a node or peer")
        }
        let salt = Array(salt.utf8)
        let (seq, cas) = (seq, cas)
        func item(_ sequence: Int64) -> StoredItem {
            StoredItem(value: value, salt: salt, sequence: sequence, by: signer)
        }
        // Without a sequence of the user's: one more than the newest that is found.
        func sequence(_ done: [LookupOutcome]) -> Int64 {
            if let seq { return seq }
            guard case .item(let found?)? = done.first?.result, let newest = found.signed?.sequence else { return 1 }
            return newest == .max ? newest : newest + 1
        }
        let reads = seq == nil ? 1 : 0
        return OverlaySteps(
            next: { done, overlay, now in
                if done.count < reads { return overlay.getMutable(key: signer.peerID, salt: salt, at: now) }
                return done.count == reads ? overlay.put(item(sequence(done)), cas: cas, at: now) : nil
            },
            report: { Self.report(item(sequence($0)), $0.last!) })
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

    private static func report(_ item: StoredItem, _ outcome: LookupOutcome) -> ToolReport {
        var out = ToolReport("put", outcome)
        guard case .stored(let replicas, let refusals) = outcome.result else { return out }
        out["target"] = item.target.hex
        out["replicas"] = replicas
        out["refusals"] = refusals.map { ["code": $0.code, "text": $0.text] }
        out.lines = ["target \(item.target.hex)"]
        if let signed = item.signed {
            out["key"] = signed.key.hex
            out["salt"] = String(decoding: signed.salt, as: UTF8.self)
            out["seq"] = signed.sequence
            out.lines.append("key \(signed.key.hex) seq \(signed.sequence)")
        }
        out.lines.append("stored at \(replicas) nodes in \(milliseconds(outcome.elapsed))")
        for refusal in Set(refusals).sorted(by: { ($0.code, $0.text) < ($1.code, $1.text) }) {
            out.lines.append("refused by \(refusals.count { $0 == refusal }): \(refusal)")
        }
        out.isGood = replicas > 0
        return out
    }
}

/// `atoll node get`: finds an item.
struct NodeGet: ParsableCommand, OverlayOperation {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Find a value by its hash, or with --key by whose it is.")
    @Argument(help: "The hash: 40 hexadecimal digits.") var target: String?
    @Option(help: "Public key of a mutable item: 64 hexadecimal digits.") var key: String?
    @Option(help: "Its salt.") var salt = ""
    @Flag(help: "Only the value's bytes, as stored.") var raw = false
    @OptionGroup var options: ToolOptions

    func run() throws { try runAlone() }

    func steps(poolKey: [UInt8]?, identity: SigningKey?) throws -> OverlaySteps {
        let salt = Array(salt.utf8)
        let raw = raw
        if let key {
            guard let peer = PeerID(hex: key) else {
                throw NodeError.badInput("--key \(key): 64 hexadecimal digits of a public key expected")
            }
            guard target == nil else { throw NodeError.badInput("either a hash or --key, not both") }
            let id = StoredItem.target(key: peer, salt: salt)
            return OverlaySteps(
                next: { done, overlay, now in
                    done.isEmpty ? overlay.getMutable(key: peer, salt: salt, at: now) : nil
                }, report: { Self.report(id, $0[0], raw: raw) })
        }
        let text = try options.positional(target, "the hash (or --key)")
        guard text.utf8.count == 40, let id = NodeID(hex: text) else {
            throw NodeError.badInput("\(text): 40 hexadecimal digits of a hash expected, or --key KEY")
        }
        return OverlaySteps(
            next: { done, overlay, now in done.isEmpty ? overlay.getImmutable(id, at: now) : nil },
            report: { Self.report(id, $0[0], raw: raw) })
    }

    private static func report(_ id: NodeID, _ outcome: LookupOutcome, raw: Bool) -> ToolReport {
        var out = ToolReport("get", outcome)
        guard case .item(let found) = outcome.result else { return out }
        out["target"] = id.hex
        out["found"] = found != nil
        guard let item = found else {
            out.isGood = false
            out.lines = ["nobody has \(id.hex)"]
            return out
        }
        out["value_hex"] = item.value.hex
        if raw { out.raw = item.value }
        let string = (try? BencodeView(item.value))?.string.map { Array($0) }
        let text = string.flatMap { String(validating: $0, as: UTF8.self) }
        if let text { out["text"] = text }
        out.lines = [text ?? "bencoded, in hexadecimal: \(item.value.hex)"]
        if let signed = item.signed {
            out["key"] = signed.key.hex
            out["salt"] = String(decoding: signed.salt, as: UTF8.self)
            out["seq"] = signed.sequence
            out.lines.append("seq \(signed.sequence), signed by \(signed.key.hex)")
        }
        out.lines.append("found in \(milliseconds(outcome.elapsed)), \(outcome.hops) hops")
        return out
    }
}

func milliseconds(_ duration: Duration) -> String { fixed(duration.inSeconds * 1000, 1) + " ms" }
