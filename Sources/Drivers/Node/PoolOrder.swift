import Digests
import Foundation
public import Pools
public import Primitives

/// What whoever keeps a pool's members orders: to remove somebody, to take an invite back, to change the pool's key.
public struct PoolOrder: Sendable {
    public enum Kind: String, CaseIterable, Sendable {
        /// A member goes, and the invite that it came by is closed, unless it is `peer-only`.
        case peer, peerOnly = "peer-only"
        /// Nobody else joins by an invite; nor stays who has.
        case invite, inviteAndMembers = "invite-and-members"
        /// The pool gets another key; the value is how many seconds the one it has stays right beside it.
        case key
    }
    public let kind: Kind
    public let value: String

    public init(_ kind: Kind, _ value: String) { (self.kind, self.value) = (kind, value) }
    init(_ word: String, _ value: String) throws(NodeError) {
        guard let kind = Kind(rawValue: word) else {
            throw .badInput(
                "\(word.prefix(40)): one of \(Kind.allCases.map(\.rawValue).joined(separator: ", ")) expected")
        }
        self.init(kind, value)
    }

    /// - Returns: what was done, in a sentence.
    func perform(on book: inout PoolBook, at now: Instant) -> Result<String, NodeError> {
        guard book.keepsPool else {
            return .failure(
                .failed(
                    "this daemon is a member of its pool and does not keep it: the one in whose folder the authority's key is does"
                ))
        }
        switch kind {
        case .peer, .peerOnly: return remove(from: &book, at: now)
        case .invite, .inviteAndMembers:
            guard let invite = Digest256(hex: value) else {
                return .failure(.badInput("\(value.prefix(80)) is no invite's ID"))
            }
            let kind = kind == .invite ? Revocation.Kind.invite : .inviteAndMembers
            guard book.revoke(kind, of: invite, at: now) else {
                return .failure(full(book, book.revoked(kind, invite)))
            }
            return .success(
                kind == .invite
                    ? "nobody else joins by invite \(invite.short); who has joined by it stays"
                    : "invite \(invite.short) is revoked, and all who joined by it are removed")
        case .key:
            guard let overlap = Int64(value), (900...30 * 86_400).contains(overlap) else {
                return .failure(.badInput("an overlap of 15 minutes to 30 days expected"))
            }
            guard book.rotate(to: randomBytes(32), overlap: overlap, at: now) else {
                return .failure(
                    .failed(
                        "the pool's key was changed lately, and the one before it is still right: wait until it is not")
                )
            }
            return .success(
                "the pool has another key; members hear of it, use it in \(overlap / 3) s, and drop the old one in \(overlap) s"
            )
        }
    }
    private func remove(from book: inout PoolBook, at now: Instant) -> Result<String, NodeError> {
        guard let peer = PeerID(hex: value) else { return .failure(.badInput("\(value.prefix(80)) is no peer's key")) }
        guard peer != book.identity else {
            return .failure(.badInput("\(peer.short) is this daemon itself, which keeps the pool"))
        }
        guard let removal = book.remove(peer, closing: kind == .peer, at: now) else {
            return .failure(full(book, book.revoked(.peer, Digest256(peer.bytes)!)))
        }
        let said = "\(peer.short) is removed: no member lets it in any more"
        guard let invite = removal.invite else {
            return .success(
                "\(said). By which invite it came is not known here: if it holds one that is not used up, revoke that, too"
            )
        }
        if removal.isClosed { return .success("\(said), and its invite \(invite.short) is closed for others") }
        return .success(
            kind == .peer
                ? said : "\(said). Its invite \(invite.short) stays: by that it may come back with another key")
    }
    private func full(_ book: PoolBook, _ since: Int64?) -> NodeError {
        since == nil
            ? .failed(
                "\(PoolBook.revocationsMax) revocations are kept already, and there is no room for more: change the pool's key for those "
                    + "who stay (atoll invite rotate), or make a new pool")
            : .failed("it was revoked before")
    }

    /// Has the daemon of a folder do it, or does it to the folder where none runs.
    public func perform(in folder: String) throws(NodeError) -> String {
        let command: ControlService.Command = kind == .key ? .rotate : .revoke
        if let (answer, _) = try ControlService.ask(
            ControlService.Request(command, key: kind.rawValue, value: value), in: folder)
        {
            if let error = answer.error { throw .failed(error) }
            return answer.said ?? "done"
        }
        let data = try DataFolder(folder)
        defer { data.close() }
        guard var book = try PoolEntry.book(in: folder, of: data.key.peerID) else {
            throw .badInput("\(folder) is in no pool that keeps members")
        }
        let said = try perform(on: &book, at: PoolEntry.now).get()
        try writeFile(folder + "/" + PoolEntry.file, book.encoded, mode: 0o600)
        return "\(said). No daemon runs in \(folder): the others hear of it when one does"
    }
}
