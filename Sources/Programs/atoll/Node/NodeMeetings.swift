import ArgumentParser
import Digests
import Kademlia
import Node
import Primitives

/// `atoll node announce`: says that somebody listens (BEP 5).
struct NodeAnnounce: ParsableCommand, OverlayOperation {
    static let configuration = CommandConfiguration(
        commandName: "announce", abstract: "Announce this machine under an info-hash or topic, once.")
    @Argument(help: "40 hexadecimal digits, or a topic.") var topic: String?
    @Option(help: "The port that others shall dial.") var port: UInt16
    @OptionGroup var options: ToolOptions

    func run() throws { try runAlone() }

    func steps(poolKey: [UInt8]?, identity: SigningKey?) throws -> OverlaySteps {
        let topic = try options.positional(topic, "the info-hash or topic")
        guard port > 0 else { throw NodeError.badInput("--port 0: from 1 to 65535") }
        let hash = options.infoHash(topic, poolKey)
        let port = port
        return OverlaySteps { done, overlay, now in
            done.isEmpty ? overlay.announce(hash, port: port, at: now) : nil
        } report: { outcomes in
            let outcome = outcomes[0]
            var out = ToolReport("announce", outcome)
            guard case .stored(let replicas, let refusals) = outcome.result else { return out }
            out["info_hash"] = hash.hex
            out["port"] = Int(port)
            out["replicas"] = replicas
            out["refusals"] = refusals.map { ["code": $0.code, "text": $0.text] }
            out.isGood = replicas > 0
            out.lines = [
                "info-hash \(hash.hex)",
                "announced at \(replicas) nodes in \(milliseconds(outcome.elapsed)); they keep it for half an hour",
            ]
            return out
        }
    }
}

/// `atoll node peers`: who announced.
struct NodePeers: ParsableCommand, OverlayOperation {
    static let configuration = CommandConfiguration(
        commandName: "peers", abstract: "List who announced under an info-hash or topic.")
    @Argument(help: "40 hexadecimal digits, or a topic.") var topic: String?
    @OptionGroup var options: ToolOptions

    func run() throws { try runAlone() }

    func steps(poolKey: [UInt8]?, identity: SigningKey?) throws -> OverlaySteps {
        let topic = try options.positional(topic, "the info-hash or topic")
        let hash = options.infoHash(topic, poolKey)
        return OverlaySteps { done, overlay, now in
            done.isEmpty ? overlay.getPeers(hash, at: now) : nil
        } report: { outcomes in
            let outcome = outcomes[0]
            var out = ToolReport("peers", outcome)
            guard case .peers(let peers) = outcome.result else { return out }
            let sorted = peers.map(\.description).sorted()
            out["info_hash"] = hash.hex
            out["peers"] = sorted
            out.isGood = !peers.isEmpty
            out.lines = sorted + ["\(peers.count) peers in \(milliseconds(outcome.elapsed))"]
            return out
        }
    }
}

/// `atoll node lookup`: the nodes closest to a place in the key space.
struct NodeLookup: ParsableCommand, OverlayOperation {
    static let configuration = CommandConfiguration(
        commandName: "lookup", abstract: "List the live nodes closest to an ID.")
    @Argument(help: "40 hexadecimal digits, or a topic.") var target: String?
    @OptionGroup var options: ToolOptions

    func run() throws { try runAlone() }

    func steps(poolKey: [UInt8]?, identity: SigningKey?) throws -> OverlaySteps {
        let target = options.infoHash(try options.positional(target, "the target"), poolKey)
        var size: Double?
        return OverlaySteps { done, overlay, now in
            size = overlay.estimatedSize(at: now)
            return done.isEmpty ? overlay.findNode(target, at: now) : nil
        } report: { outcomes in
            let outcome = outcomes[0]
            var out = ToolReport("lookup", outcome)
            guard case .nodes(let nodes) = outcome.result else { return out }
            out["target"] = target.hex
            out["nodes"] = nodes.map {
                ["id": $0.id.hex, "endpoint": $0.endpoint.description, "distance_bits": bits($0.id, target)]
            }
            out.lines = nodes.map { "\($0.id.hex) \($0.endpoint) 2^\(bits($0.id, target))" }
            out.lines.append(
                "\(nodes.count) nodes in \(milliseconds(outcome.elapsed)), \(outcome.hops) hops, "
                    + "\(outcome.queries) queries")
            if let size {
                out["estimated_size"] = Int(size.rounded())
                out.lines.append("the network seems to have about \(Int(size.rounded())) nodes")
            }
            out.isGood = !nodes.isEmpty
            return out
        }
    }

    /// Position of the highest bit in which two IDs differ; -1 for the same one.
    private func bits(_ a: NodeID, _ b: NodeID) -> Int { 159 - (a ^ b).leadingZeroBitCount }
}
