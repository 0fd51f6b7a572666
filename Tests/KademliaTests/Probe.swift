import Digests
import Kademlia
import Primitives
import Wire

/// A stranger with a socket: sends one datagram to a node and looks at what comes back. Its messages are written out by hand
/// or by the package's encoder, and every reply is checked to be strict bencode.
final class Probe {
    var node: Overlay
    var now = Instant(seconds: 50)
    var address = Endpoint(ipv4: 127, 0, 0, 9, port: 7777)
    let id = NodeID(hashing: "probe".utf8)
    let seal: PoolSeal?
    var sent = 0

    init(poolKey: [UInt8]? = nil, configure: (inout OverlayConfiguration) -> Void = { _ in }) {
        var configuration = OverlayConfiguration(poolKey: poolKey, bootstrap: [], seed: 3)
        configure(&configuration)
        node = Overlay(
            configuration: configuration, identity: World.identity(1), nodeID: nil, known: [], at: now)
        seal = poolKey.map(PoolSeal.init(key:))
        while node.poll() != nil {}
    }

    /// The datagrams that the node sends to us because of this one.
    func send(_ bytes: [UInt8]) -> [[UInt8]] {
        node.receive(datagram: bytes, from: address, at: now)
        var out: [[UInt8]] = []
        while let effect = node.poll() {
            if case .send(let bytes, let to) = effect, to == address {
                precondition((try? BencodeView(bytes)) != nil, "the node wrote bencode that is not canonical")
                out.append(bytes)
            }
        }
        return out
    }
    func send(_ text: String) -> KRPCMessage? { first(send(Array(text.utf8))) }

    /// The first reply that is no query.
    func first(_ replies: [[UInt8]]) -> KRPCMessage? {
        for reply in replies {
            guard let message = try? KRPCMessage.decode(reply, pool: seal) else { continue }
            switch message.body {
            case .answer, .error: return message
            default: continue
            }
        }
        return nil
    }
    func ask(_ method: KRPCMethod, want: Want = [], readOnly: Bool = false) -> KRPCMessage? {
        sent += 1
        let query = KRPCQuery(sender: id, method: method, want: want)
        var message = KRPCMessage(transaction: [UInt8(sent & 255), 1], body: .query(query))
        message.isReadOnly = readOnly
        return first(send(message.encoded(pool: seal)))
    }
    func answer(_ method: KRPCMethod, want: Want = []) -> KRPCAnswer? {
        if case .answer(let answer) = ask(method, want: want)?.body { answer } else { nil }
    }
    func errorCode(_ method: KRPCMethod) -> Int? {
        if case .error(let error) = ask(method)?.body { error.code } else { nil }
    }
    func token(for target: NodeID) -> ArraySlice<UInt8> {
        answer(.get(target: target, sequence: nil))?.token ?? []
    }
    /// Puts with a fresh token; nil when it was accepted.
    func put(_ item: StoredItem, cas: Int64? = nil) -> Int? {
        errorCode(.put(.init(token: token(for: item.target), item: item, cas: cas)))
    }
}

extension KRPCMessage {
    var errorCode: Int? { if case .error(let error) = body { error.code } else { nil } }
}
