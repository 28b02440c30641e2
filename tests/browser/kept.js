// All that a page keeps where scripts of later pages would find it.
async () => {
    const stored = storage => Object.entries(storage).flat();
    const names = "caches" in self ? await caches.keys() : [];
    const bases = indexedDB.databases ? await indexedDB.databases() : [];
    return JSON.stringify([stored(localStorage), stored(sessionStorage), names, bases.map(one => one.name),
        history.state, location.href, document.referrer, document.cookie]);
}
