<?php
// Invoices with numbers such as INV-00004, in plain PHP with PDO on PostgreSQL.
// NUMBERING=refresh is the bug: a sequence row is increased by one statement and read by the next, as increment() and refresh() do
//   in an ORM. In between, another request may increase it too, and both read the same number.
// NUMBERING=returning is the fix: one statement increases and returns, in the transaction that stores the invoice.
declare(strict_types=1);

function connect(): PDO
{
    $url = parse_url((string) getenv('DATABASE_URL'));
    $dsn = sprintf('pgsql:host=%s;port=%d;dbname=%s', $url['host'], $url['port'] ?? 5432, ltrim($url['path'], '/'));
    $user = rawurldecode($url['user'] ?? '');
    $password = rawurldecode($url['pass'] ?? '');
    return new PDO($dsn, $user, $password, [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function answer(int $status, array $body): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($body);
}

function store(PDO $pdo, int $number, string $company, array $body): string
{
    $text = 'INV-' . str_pad((string) $number, 5, '0', STR_PAD_LEFT);
    $pdo->prepare('INSERT INTO invoices (company, number, invoice_number, cents, reference) VALUES (?, ?, ?, ?, ?)')
        ->execute([$company, $number, $text, $body['cents'], $body['reference']]);
    return $text;
}

function incrementAndRefresh(PDO $pdo, string $company, array $body): array
{
    $pdo->prepare('INSERT INTO sequences (company) VALUES (?) ON CONFLICT DO NOTHING')->execute([$company]);
    $pdo->prepare('UPDATE sequences SET current_number = current_number + 1 WHERE company = ?')->execute([$company]);
    $row = $pdo->prepare('SELECT current_number FROM sequences WHERE company = ?');
    $row->execute([$company]);
    $number = (int) $row->fetchColumn();
    return ['number' => $number, 'text' => store($pdo, $number, $company, $body)];
}

function incrementReturning(PDO $pdo, string $company, array $body): array
{
    $pdo->beginTransaction();
    $row = $pdo->prepare(
        'INSERT INTO sequences (company, current_number) VALUES (?, 1)
         ON CONFLICT (company) DO UPDATE SET current_number = sequences.current_number + 1 RETURNING current_number'
    );
    $row->execute([$company]);
    $number = (int) $row->fetchColumn();
    $text = store($pdo, $number, $company, $body);
    $pdo->commit();
    return ['number' => $number, 'text' => $text];
}

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/health') {
    connect()->exec(
        'CREATE TABLE IF NOT EXISTS sequences (company text PRIMARY KEY, current_number int NOT NULL DEFAULT 0);
         CREATE TABLE IF NOT EXISTS invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, company text NOT NULL,
             number int NOT NULL, invoice_number text NOT NULL, cents bigint NOT NULL, reference text NOT NULL)'
    );
    answer(200, ['ok' => true]);
} elseif (preg_match('#^/companies/([^/]+)/invoices$#', $path, $found) && $_SERVER['REQUEST_METHOD'] === 'POST') {
    $body = json_decode(file_get_contents('php://input'), true);
    $create = getenv('NUMBERING') === 'returning' ? 'incrementReturning' : 'incrementAndRefresh';
    try {
        answer(201, $create(connect(), rawurldecode($found[1]), $body));
    } catch (PDOException $e) {
        answer(500, ['error' => $e->getMessage()]);
    }
} else {
    answer(404, ['error' => 'no such route']);
}
